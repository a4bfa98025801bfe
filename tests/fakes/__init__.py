"""Stateful fakes of providers that cannot be run here, for use behind their real client libraries.

Each is a context manager that serves on a free loopback port, keeps state as the provider does, records
every call in `calls`, and can be told to fail (`faults`): refuse, fall silent, cut the line, and carry a
request out all the same, at once or late. Nothing here knows remediator.
"""
