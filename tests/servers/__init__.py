"""Real components for the tests, the demo and the bench: PostgreSQL, Prometheus, Alertmanager, Redis, moto.

Each is a context manager that starts one server on a free loopback port in a temporary directory,
waits until it answers, and always stops it. Nothing here knows remediator. Nothing here installs
anything: a program that is not there raises `Missing`, which names it and says how to get it.
"""
