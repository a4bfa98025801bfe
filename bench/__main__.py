"""`make bench`: measure everything, print the table, keep it in docs/performance.md.

python -m bench [SECTION …]        only these, and keep nothing
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from bench import acting, footprint, intake, pausing, replicas, runs, sleeping
from bench.table import Row, keep, machine, text
from tests.servers.process import Failed

SECTIONS: dict[str, Callable[[], Iterator[Row]]] = {
    "intake": intake.new_alerts,
    "repeated": intake.repeated,
    "policies": intake.many_policies,
    "latency": acting.latency,
    "runs": runs.runs,
    "replicas": replicas.replicas,
    "idle": footprint.idle,
    "full": footprint.full,
    "sleeping": sleeping.sleeping,
    "recovering": sleeping.recovering,
    "help": footprint.help_text,
    "pausing": pausing.pausing,
}


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(wanted: list[str]) -> int:
    """Returns 0 if everything wanted was reached."""
    signal.signal(signal.SIGTERM, _interrupt)
    if unknown := [name for name in wanted if name not in SECTIONS]:
        print(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    print(machine(), flush=True)
    rows: list[Row] = []
    try:
        for name in wanted or SECTIONS:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            for row in SECTIONS[name]():
                rows.append(row)
                print(text([row]).splitlines()[-1], file=sys.stderr, flush=True)
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing is left running", file=sys.stderr)
        return 130
    print(text(rows))
    if not wanted:
        keep(rows)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
