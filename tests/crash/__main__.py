"""`make crash`: kill, stop and continue real daemons under load, on each store, and judge what they did."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psycopg

from tests.crash.campaign import PRODUCTION_LEASE, Plan, campaign, invariants_broken, table
from tests.servers.postgres import Postgres

STORES = {"sqlite": 1, "postgres": 3}


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the daemons end with us
    args = _arguments()
    stores = list(STORES) if args.store == "both" else [args.store]
    if not args.controls:
        return max(_one(store, _plan(args, store)) for store in stores)
    blind = [
        plan.without
        for store, plan in _controls(args.seed).items()
        if store in stores and _one(store, plan) == 0
    ]
    if blind:
        print(f"Nothing was found without {', '.join(blind)}: the harness would not see that fault.")
    return 1 if blind else 0


def _plan(args: argparse.Namespace, store: str) -> Plan:
    replicas = STORES[store]
    return Plan(
        seed=args.seed,
        alerts=args.alerts,
        kills=args.kills,
        replicas=replicas,
        long_stops=args.long_stops
        if replicas > 1 or args.lease < PRODUCTION_LEASE
        else min(1, args.long_stops),
        lease=args.lease,
        pace=2.0 if replicas == 1 else 1.4,
    )


def _controls(seed: int) -> dict[str, Plan]:
    """Kills are what the intent is for; stops longer than a lease are what the epoch is for."""
    common = Plan(seed=seed, alerts=150, kills=10, long_stops=0, patience=60)
    return {
        "sqlite": replace(common, without="intent"),
        "postgres": replace(common, without="epoch", replicas=3, kills=2, long_stops=10, lease=4),
    }


def _one(store: str, plan: Plan) -> int:
    """0 if every invariant held."""
    left_out = f", WITHOUT {plan.without} (a control: it must fail)" if plan.without else ""
    said = f"{plan.replicas} daemon(s), {plan.alerts} alerts, {plan.kills} kills"
    print(f"{store}: {said}, SEED={plan.seed}{left_out}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="remediator-crash-"))
    with ExitStack() as stack:
        address = None
        if store == "postgres":
            server = stack.enter_context(Postgres(max_connections=150))
            address = server.dsn(dbname="crash")
            with psycopg.connect(server.superuser_dsn, autocommit=True) as link:
                link.execute("CREATE DATABASE crash")
        result = campaign(plan, home, address, _tell)
    _tell("")
    print(table(result))
    broken = invariants_broken(result)
    if broken:
        print(f"\n{store}: VIOLATED: {', '.join(broken)}. What it left: {home}\n", flush=True)
        return 1
    shutil.rmtree(home, ignore_errors=True)
    print(f"\n{store}: every invariant held\n", flush=True)
    return 0


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r" + line[:width].ljust(width) + ("" if line else "\r"))
        sys.stderr.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what happens, and to whom")
    parser.add_argument("--store", choices=("both", *STORES), default="both")
    parser.add_argument("--alerts", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--long-stops", type=int, default=5, help="pauses longer than a lease")
    parser.add_argument("--lease", type=float, default=PRODUCTION_LEASE, help="seconds")
    parser.add_argument("--controls", action="store_true", help="leave safeties out: each run must fail")
    args = parser.parse_args()
    if args.seed is None:
        args.seed = random.randrange(1_000_000)
    return args


if __name__ == "__main__":
    raise SystemExit(main())
