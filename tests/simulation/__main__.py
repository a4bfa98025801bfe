"""Plays, replays and shrinks: see `--help`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.scenario import Event, draw
from tests.simulation.shrink import shrink
from tests.simulation.simulation import play, quiet


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="play seeds until the time is up or one fails")
    run.add_argument("--first", type=int, default=0)
    run.add_argument("--seeds", type=int, default=0, help="how many; 0: as many as the time allows")
    run.add_argument("--seconds", type=float, default=0.0, help="at most; 60 where no --seeds are given")
    run.add_argument("--go-on", action="store_true", help="do not stop at a failing seed")
    run.add_argument(
        "--step", type=int, default=1, help="every n-th seed: for several processes beside each other"
    )
    replay = verbs.add_parser("replay", help="play one seed and print each step")
    replay.add_argument("seed", type=int)
    replay.add_argument("--sabotage", default="")
    less = verbs.add_parser("shrink", help="find the least that still fails, and print it")
    less.add_argument("seed", type=int)
    less.add_argument("--sabotage", default="")
    trace = verbs.add_parser("trace", help="print the hash of each seed's trace")
    trace.add_argument("seeds", type=int, nargs="+")
    options = parser.parse_args(argv)
    with quiet():
        match options.verb:
            case "run":
                return _run(options)
            case "replay":
                return _replay(options)
            case "shrink":
                return _shrink(options)
            case _:
                for seed in options.seeds:
                    print(seed, play(draw(seed)).trace)
                return 0


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    seen: Counter[str] = Counter()
    failed: list[str] = []
    virtual, steps, played = 0.0, 0, 0
    seed = options.first
    limit = options.seconds or (0.0 if options.seeds else 60.0)
    while not options.seeds or played < options.seeds:
        if limit and time.monotonic() - began > limit:
            break
        result = play(draw(seed))
        played += 1
        virtual += result.seconds
        steps += result.steps
        seen += result.seen
        if result.violation is not None:
            failed.append(f"seed {seed}: {result.violation}")
            print(f"seed {seed}: {result.violation}", flush=True)
            if not options.go_on:
                break
        seed += options.step
    took = time.monotonic() - began
    for name, count in sorted(seen.items()):
        print(f"  {count:8d}  {name}")
    print(
        f"{played} seeds from {options.first}, {virtual / 3600:.1f} simulated hours in {took:.1f}s "
        f"({virtual / 3600 / took:.2f} hours per second), {steps} steps, {len(failed)} failed"
    )
    for line in failed:
        print(f"{line}\n    replay: python -m tests.simulation replay {line.split()[1].rstrip(':')}")
    return 1 if failed else 0


def _replay(options: argparse.Namespace) -> int:
    from dataclasses import replace

    result = play(replace(draw(options.seed), sabotage=options.sabotage), verbose=True)
    print("\n".join(result.log))
    print(f"trace {result.trace}, {result.seconds:.0f} simulated seconds, {result.steps} steps")
    print(f"VIOLATION {result.violation}" if result.violation else "nothing violated")
    return 1 if result.violation else 0


def _shrink(options: argparse.Namespace) -> int:
    from dataclasses import replace

    scenario = replace(draw(options.seed), sabotage=options.sabotage)
    first = play(scenario)
    if first.violation is None:
        print(f"seed {options.seed} fails in nothing")
        return 0
    least = shrink(scenario, first.violation.invariant)
    result = play(least, verbose=True)
    print("\n".join(result.log))
    alone = ", alone" if least.alone else ""
    print(f"\n{least.replicas} replicas{alone}, {len(least.items)} of {len(scenario.items)}:")
    for item in least.items:
        print(f"  {item}" if isinstance(item, Event) else str(item))
    print(f"VIOLATION {result.violation}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
