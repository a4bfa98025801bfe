"""`python -m tests.crash.daemon CONFIG`: the daemon as `remediator serve` runs it, around a store that is not
quite the real one: with a shorter lease, or with one of its safeties left out.

    --lease SECONDS     claims last this long instead of 30 s, so that a test need not wait for it
    --halt              it stops itself (SIGSTOP) between the first permission to call and the call
    --without epoch     whoever has lost a run may go on writing it
    --without intent    the permission to call is written after the call instead of before it
    --faulty METHOD     this one of the store has a fault of the program while the file of --flag is there
    --patience SECONDS  for which a vital task may fail

`--without` are the controls of the crash harness: with either it must be seen to fail. Nothing in the
package knows of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from remediator import log, wiring
from remediator.cli.serve import serving
from remediator.contracts import Admission, Clock, Held, Move, Store
from remediator.engine.daemon import Daemon
from remediator.model import SECOND, Instant, IntentOutcome, Run, RunId
from remediator.settings import Settings, load
from remediator.store import open_store
from remediator.store.limits import Limits


class Around:
    """The real store, all of it, for others to change a method of."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Hasty(Around):
    """Claims are short: a run in a call is another's as soon as its lease is over."""

    def __init__(self, store: Store, lease: int) -> None:
        super().__init__(store)
        self._lease = lease

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        move = await self._sooner(admission.move)
        return await self._store.admit(run, msgspec.structs.replace(admission, move=move))

    async def move(self, run: Run, move: Move) -> Run:
        if any(update.outcome is IntentOutcome.PENDING for update in move.intents):
            move = await self._sooner(move)
        return await self._store.move(run, move)

    async def _sooner(self, move: Move) -> Move:
        return msgspec.structs.replace(move, next_at=Instant(await self._store.now() + self._lease))


class Halting(Around):
    """The process is stopped where it is least convenient: the permission is committed, nothing is called."""

    _halted = False

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        answer = await self._store.admit(run, admission)
        if not isinstance(answer, Held) and not self._halted:
            self._halted = True
            os.kill(os.getpid(), signal.SIGSTOP)
        return answer


_HELD = "UPDATE run SET lease_until = :until WHERE id = :run AND outcome IS NULL AND lease_until IS NULL"


class WithoutEpoch(Around):
    """The compare-and-set of a move always succeeds: it looks for its epoch, and for a run that is held
    (between two turns of its worker it is not, which alone keeps most zombies from writing)."""

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        return await self._store.admit(await self._mine(run), admission)

    async def move(self, run: Run, move: Move) -> Run:
        return await self._store.move(await self._mine(run), move)

    async def _mine(self, run: Run) -> Run:
        values = {"run": run.id, "until": await self._store.now() + Limits().lease}
        await cast(Any, self._store)._write(lambda tx: tx.run(_HELD, values))
        latest = await self._store.run(run.id)
        return msgspec.structs.replace(run, epoch=latest.epoch)


class WithoutIntent(Around):
    """ADMIT answers as ever, and leaves nothing behind; what it should have written is written when the
    call has come back."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._unwritten: dict[RunId, tuple[Run, Admission]] = {}

    async def admit(self, run: Run, admission: Admission) -> Run | Held:
        answer = await self._store.admit(run, admission)
        if not isinstance(answer, Held):
            intent = admission.intent
            values = {
                "run": run.id,
                "number": intent.number,
                "state": run.state.value,
                "progress": msgspec.json.encode(run.progress).decode(),
                "now": intent.created_at,
            }

            def forget(tx: Any) -> None:
                tx.run("DELETE FROM intent WHERE run = :run AND number = :number", values)
                tx.run("DELETE FROM target_lock WHERE run = :run", values)
                tx.run(
                    "UPDATE run SET state = :state, progress = :progress, next_at = :now WHERE id = :run",
                    values,
                )

            await cast(Any, self._store)._write(forget)
            self._unwritten[run.id] = (run, admission)
        return answer

    async def move(self, run: Run, move: Move) -> Run:
        before = self._unwritten.pop(run.id, None)
        if before is not None:
            await self._store.admit(*before)
        return await self._store.move(run, move)


class Faulty(Around):
    """Fails by a fault of the program in some methods, for as long as a file is there."""

    def __init__(self, store: Store, methods: Sequence[str], flag: Path) -> None:
        super().__init__(store)
        self._methods = methods
        self._flag = flag

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in self._methods:
            return found

        async def answer(*args: Any, **options: Any) -> Any:
            if self._flag.exists():
                raise TypeError("a fault of the program, on purpose")
            return await found(*args, **options)

        return answer


SABOTAGE = {"epoch": WithoutEpoch, "intent": WithoutIntent}


def make_store(
    settings: Settings, clock: Clock | None, lease: float, halt: bool, without: str | None
) -> Store:
    """The store of settings, as the command line wants it."""
    from remediator.clock import SystemClock

    short = round(lease * SECOND)
    store = open_store(
        settings.store.url,
        clock or SystemClock(),
        receivers=wiring.receivers(settings),
        limits=Limits(lease=short),  # type: ignore[arg-type]
    )
    if short < Limits().lease:
        store = cast(Store, Hasty(store, short))
    if halt:
        store = cast(Store, Halting(store))
    return cast(Store, SABOTAGE[without](store)) if without else store


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--lease", type=float, default=30.0)
    parser.add_argument("--halt", action="store_true")
    parser.add_argument("--without", choices=sorted(SABOTAGE))
    parser.add_argument("--faulty", action="append", default=[], metavar="METHOD")
    parser.add_argument("--flag", type=Path, help="faulty for as long as it is there")
    parser.add_argument("--patience", type=float, help="seconds for which a vital task may fail")
    args = parser.parse_args()
    settings = load(args.config)
    log.configure(settings.log.level, settings.log.format)

    def made(given: Settings, clock: Clock | None) -> Store:
        store = make_store(given, clock, lease=args.lease, halt=args.halt, without=args.without)
        return cast(Store, Faulty(store, args.faulty, args.flag)) if args.faulty else store

    def make(given: Settings) -> Daemon:
        daemon = wiring.build(given, make_store=made)
        if args.patience is not None:
            daemon.patience = args.patience
        return daemon

    return asyncio.run(serving(settings, make))


if __name__ == "__main__":
    raise SystemExit(main())
