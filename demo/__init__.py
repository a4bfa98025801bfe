"""`make demo`: the main job on real parts, in under a minute, without root, containers or a cloud account.

A real PostgreSQL with twenty stuck sessions, the daemon as it is installed, an alert from a real Prometheus
and Alertmanager (or a recorded one where they are not on the PATH), and then what the log says about it.
Nothing here is part of remediator; nothing here reaches into it: the demo uses its settings file, its
webhook, its API and its command line, as a user would.
"""
