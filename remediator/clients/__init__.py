"""Clients: an SDK goes in, our four kinds of error come out.

One module for each kind of connection. SDKs are imported inside functions, when the first client of
their kind is made, so that importing any part of remediator stays light and extras stay optional.

What must not happen here: decisions (what to change, how often, whether), retries of a mutation,
and secrets in a message. A client never reads the environment for credentials of its own making;
they come from settings, or from the SDK's own chain where the kind of connection says so.
"""
