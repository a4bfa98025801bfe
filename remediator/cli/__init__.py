"""The command line: one module for each verb group.

It parses, asks and prints. It decides nothing about alerts and holds no state. Verbs that read open
the store read-only beside a running daemon, or ask an API with `--server`; verbs that change
something always go through the API.

A verb group's module is imported when that group is used, and nothing heavy before: `--help` and
shell completion must feel instant.
"""


def main() -> None:
    """The console script `remediator`."""
    from remediator.cli.app import app

    app(prog_name="remediator")
