"""HTTP: webhooks in, the API, health and metrics.

`app.create_app` puts it together: /webhooks/* is a plain ASGI route of its own, everything else is
FastAPI. It authenticates, validates and hands on; it must not decide, match or act, and no request
waits for an action.
"""
