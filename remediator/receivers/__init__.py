"""Receivers turn the body of a webhook into alerts; one module for each kind of sender.

A receiver is pure: bytes in, alerts out. It must not authenticate (that is `web.webhooks`), store,
match or act, and it keeps no state. What it cannot read it hands back with the field named, never
drops.
"""
