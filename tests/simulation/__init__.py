"""The whole engine on virtual time: seeded, repeatable, and watched by an oracle of its own.

`python -m tests.simulation --help` says how to run, replay and shrink. docs/invariants.md lists what
is asked after every step.
"""
