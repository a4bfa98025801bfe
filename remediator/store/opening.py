"""Opens the runs of new episodes, or attaches them to those that are open for the same targets."""

from __future__ import annotations

from collections.abc import Sequence, Set

from msgspec.structs import replace

from remediator.contracts import LOOK, Hint, Opening
from remediator.model import SECOND, Alert, AlertId, AuditEvent, Instant, Millis, Outcome, Reason, RunId
from remediator.store import trail
from remediator.store.rows import RUN, new_run
from remediator.store.tx import OPENINGS, Row, Tx, insert

INSERT_RUN = insert("run", RUN)
_ATTACHED = "run, alert, attached_at"
_SAME_TARGET = """
SELECT target, id FROM run
WHERE policy = :policy AND target IN (:targets) AND outcome IS NULL AND origin <> 'lease'
"""
_OPEN_RUNS = """
SELECT COUNT(*) FROM run WHERE policy = :policy AND outcome IS NULL AND origin <> 'lease'
"""
_SOON = Millis(LOOK + 2 * SECOND)
"""Every worker learns by its next look of what is held longer; the commit may take 2 s."""

Wanted = tuple[AlertId, Alert, Opening]


def open_runs(tx: Tx, wanted: Sequence[Wanted]) -> tuple[Sequence[RunId], Sequence[str], Set[RunId]]:
    """Write the openings of one delivery, in order, with a few statements for all of them; returns the run
    that each episode belongs to now, the policies of those that were refused, and those among the runs that
    were there before: where several write, one of them may be ending.

    One open run for each (policy, target): a further episode of that target attaches to it.
    Beyond `open_runs` the run is stored refused, so that it can be counted and asked about.
    """
    tx.lock(OPENINGS)
    opened = tx.known("opened", _Opened)
    _look(tx, opened, [opening for _, _, opening in wanted])
    runs: list[RunId] = []
    refused: list[str] = []
    written: list[Row] = []
    attached: list[Row] = []
    events: list[AuditEvent] = []
    for id, alert, opening in wanted:
        run = opened.targets.get(_place(opening.policy, opening.target))
        kind, observed, allowed = "run.attached", "", ""
        if run is None:
            run, kind = RunId(tx.id("run")), "run.created"
            if opened.counts[opening.policy] >= opening.open_runs:
                kind = "run.refused"
                observed = f"{opening.open_runs} open runs of {opening.policy}"
                allowed = f"fewer than {opening.open_runs} open runs"
                refused.append(opening.policy)
            else:
                opened.add(opening, run)
            written.append(_row(tx, run, id, opening, observed, allowed))
        runs.append(run)
        attached.append((run, id, tx.now))
        events += (_event(kind, id, run, alert, opening, observed, allowed), *_by_hand(id, run, opening))
    tx.append("run", RUN, written)
    tx.append("run_alert", _ATTACHED, attached)
    trail.append(tx, events)
    if opened.soonest is not None and opened.soonest <= tx.now + _SOON:
        tx.hint(Hint.DUE)
    return runs, refused, opened.found.intersection(runs)


def attach(tx: Tx, run: RunId, alert: AlertId) -> None:
    """Note that the run is about this alert too."""
    tx.append("run_alert", _ATTACHED, [(run, alert, tx.now)])


class _Opened:
    """What one transaction knows of the open runs: those it found, and those it has opened and may not have
    written yet."""

    def __init__(self) -> None:
        self.targets: dict[tuple[str, str | None], RunId] = {}
        self.counts: dict[str, int] = {}
        self.soonest: Instant | None = None
        self.found: set[RunId] = set()

    def add(self, opening: Opening, run: RunId) -> None:
        if opening.target is not None:
            self.targets[_place(opening.policy, opening.target)] = run
        self.counts[opening.policy] += 1
        self.soonest = min(self.soonest or opening.next_at, opening.next_at)


def _look(tx: Tx, opened: _Opened, openings: Sequence[Opening]) -> None:
    """Find the open runs that these may belong to, and count those of policies that were not counted yet."""
    targets: dict[str, set[str]] = {}
    for opening in openings:
        if opening.target is not None and _place(opening.policy, opening.target) not in opened.targets:
            targets.setdefault(opening.policy, set()).add(opening.target)
    for policy, names in targets.items():
        for target, run in tx.former(_SAME_TARGET, {"policy": policy}, "targets", sorted(names)):
            opened.targets[_place(policy, target)] = RunId(run)
            opened.found.add(RunId(run))
    for policy in {opening.policy for opening in openings} - opened.counts.keys():
        opened.counts[policy] = tx.former(_OPEN_RUNS, {"policy": policy})[0][0]


def _place(policy: str, target: str | None) -> tuple[str, str | None]:
    """What tells open runs apart, as it reads where a NUL cannot be kept too."""
    return policy, target and target.replace("\0", "\ufffd")


def _row(tx: Tx, run: RunId, id: AlertId, opening: Opening, observed: str, allowed: str) -> Row:
    refused = bool(observed)
    values = new_run(
        id=run,
        policy=opening.policy,
        policy_revision=opening.policy_revision,
        alert=id,
        target=opening.target,
        mode=opening.mode,
        origin=opening.origin,
        state=opening.state,
        now=tx.now,
        next_at=None if refused else opening.next_at,
        outcome=Outcome.REFUSED if refused else None,
        reason=Reason.OPEN_RUNS if refused else None,
        observed=observed,
        allowed=allowed,
    )
    return tuple(values.values())


def _by_hand(id: AlertId, run: RunId, opening: Opening) -> tuple[AuditEvent, ...]:
    started = opening.started
    return () if started is None else (replace(started, alert=id, run=run, target=opening.target),)


def _event(
    kind: str,
    id: AlertId,
    run: RunId,
    alert: Alert,
    opening: Opening,
    observed: str = "",
    allowed: str = "",
) -> AuditEvent:
    return AuditEvent(
        kind=kind,
        alert=id,
        run=run,
        policy=opening.policy,
        target=opening.target,
        reason=Reason.OPEN_RUNS.value if observed else None,
        observed=observed or None,
        allowed=allowed or None,
        data={
            "sender": alert.sender,
            "fingerprint": alert.fingerprint,
            "policy_revision": opening.policy_revision,
            "mode": opening.mode.value,
            "origin": opening.origin.value,
        },
    )
