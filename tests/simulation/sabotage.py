"""Stores and workers that are broken on purpose: the oracle must notice each of them.

A broken store answers one method wrongly, or forgets half of what it should write. What else can be broken
(a worker that calls twice, a check that takes no data for health, a plan without bounds) is asked for by its
name where it happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from remediator.contracts import Receipt
from remediator.model import Approval, ControlKind, Decision, IntentOutcome, Millis, Mode, Status
from tests.simulation.link import suspended

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

Answer = tuple[Any, Exception | None]
Serve = Callable[["Simulation", tuple[Any, ...], dict[str, Any]], Answer]


@dataclass(frozen=True)
class Sabotage:
    """One way to be broken, and the invariant that must notice.

    methods: of the store, and what answers in their place.
    """

    invariant: str
    methods: Mapping[str, Serve] = field(default_factory=dict)


def _ask(simulation: Simulation, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    return suspended(getattr(simulation.store, method)(*args, **options))


def _run(simulation: Simulation, sql: str, *values: Any) -> None:
    simulation.store._tx.connection.execute(sql, values)  # type: ignore[attr-defined]


def _column(simulation: Simulation, sql: str, *values: Any) -> Any:
    row = simulation.store._tx.connection.execute(sql, values).fetchone()  # type: ignore[attr-defined]
    return row[0] if row is not None else None


def _changed(method: str, change: Callable[[Simulation, tuple[Any, ...]], tuple[Any, ...]]) -> Any:
    def serve(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
        return _ask(simulation, method, change(simulation, args), options)

    return method, serve


def _then(method: str, after: Callable[[Simulation, tuple[Any, ...], Any], None]) -> Any:
    def serve(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
        value, error = _ask(simulation, method, args, options)
        if error is None:
            after(simulation, args, value)
        return value, error

    return method, serve


def _any_epoch(simulation: Simulation, args: tuple[Any, ...]) -> tuple[Any, ...]:
    run, *rest = args
    epoch = _column(simulation, "SELECT epoch FROM run WHERE id = ?", run.id)
    return (msgspec.structs.replace(run, epoch=epoch), *rest)


def _admission(**changes: Any) -> Callable[[Simulation, tuple[Any, ...]], tuple[Any, ...]]:
    return lambda _s, args: (args[0], msgspec.structs.replace(args[1], **changes))


def _without(kind: ControlKind) -> Serve:
    """ADMIT that does not look at brakes of this kind."""

    def serve(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
        connection = simulation.store._tx.connection  # type: ignore[attr-defined]
        rows = connection.execute("SELECT * FROM control WHERE kind = ?", (kind.value,)).fetchall()
        connection.execute("DELETE FROM control WHERE kind = ?", (kind.value,))
        answer = _ask(simulation, "admit", args, options)
        for row in rows:
            connection.execute(f"INSERT INTO control VALUES ({', '.join('?' * len(row))})", row)
        return answer

    return serve


def _facts(change: Callable[[Any], Any]) -> Serve:
    """What a worker looks at before it acts, falsified."""

    def serve(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
        value, error = _ask(simulation, "facts", args, options)
        return {run: change(facts) for run, facts in (value or {}).items()}, error

    return serve


def _brakeless(kind: ControlKind) -> Callable[[Any], Any]:
    def change(facts: Any) -> Any:
        controls = tuple(one for one in facts.controls if one.kind is not kind)
        return msgspec.structs.replace(facts, controls=controls)

    return change


def _all_firing(facts: Any) -> Any:
    episodes = tuple(
        msgspec.structs.replace(one, alert=msgspec.structs.replace(one.alert, status=Status.FIRING))
        for one in facts.episodes
    )
    return msgspec.structs.replace(facts, episodes=episodes)


def _without_verdict(simulation: Simulation, args: tuple[Any, ...]) -> tuple[Any, ...]:
    run, move = args
    events = tuple(event for event in move.events if not event.kind.startswith("action."))
    return run, msgspec.structs.replace(move, events=events)


def _wrong_prior(simulation: Simulation, args: tuple[Any, ...]) -> tuple[Any, ...]:
    run, move = args
    effects = tuple(msgspec.structs.replace(new, prior=new.current) for new in move.effects)
    return run, msgspec.structs.replace(move, effects=effects)


def _no_quarantine(simulation: Simulation, args: tuple[Any, ...]) -> tuple[Any, ...]:
    run, move = args
    return run, msgspec.structs.replace(move, controls=())


def _blind_reissue(simulation: Simulation, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """An unknown outcome is taken for not applied, whatever the action."""
    run, move = args
    intents = tuple(
        msgspec.structs.replace(one, outcome=IntentOutcome.NOT_APPLIED)
        if one.outcome is IntentOutcome.UNKNOWN
        else one
        for one in move.intents
    )
    return run, msgspec.structs.replace(move, intents=intents)


def _far_timer(simulation: Simulation, args: tuple[Any, ...], _value: Any) -> None:
    _run(
        simulation,
        "UPDATE run SET next_at = next_at + 864000000 WHERE id = ? AND outcome IS NULL",
        args[0].id,
    )


def _no_storm(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    """ADMIT that neither looks for a storm nor counts."""
    run, admission = args
    calm = msgspec.structs.replace(admission, storm=None)
    return _without(ControlKind.STORM)(simulation, (run, calm), options)


def _no_breakers(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    value, error = _ask(simulation, "controls", args, options)
    return [one for one in value or () if one.kind is not ControlKind.BREAKER], error


def _no_arrivals(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    """For the guard, which asks about one sender; the watch over all of them goes on."""
    return ((), None) if len(args) > 1 else _ask(simulation, "arrivals", args, options)


def _unasked(simulation: Simulation, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """ADMIT that takes every run for one that need not ask."""
    run, admission = args
    bold = msgspec.structs.replace(run.progress, asked=False)
    return (
        msgspec.structs.replace(run, mode=Mode.ENFORCE, progress=bold),
        msgspec.structs.replace(admission, mode=Mode.ENFORCE, approval=None),
    )


def _answers(change: Callable[[Approval], Approval]) -> Serve:
    """What a worker reads of a person's answer, falsified."""

    def serve(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
        value, error = _ask(simulation, "approvals", args, options)
        return [change(one) for one in value or ()], error

    return serve


def _always_yes(asked: Approval) -> Approval:
    return msgspec.structs.replace(asked, decision=Decision.APPROVED, decided_at=asked.asked_at)


def _for_all(asked: Approval) -> Approval:
    blast = msgspec.structs.replace(asked.plan.blast, amount=99.0)
    return msgspec.structs.replace(asked, plan=msgspec.structs.replace(asked.plan, blast=blast))


def _shown_less(simulation: Simulation, _args: tuple[Any, ...], _value: Any) -> None:
    _run(simulation, "UPDATE approval SET plan = json_set(plan, '$.blast.amount', 1) WHERE decision IS NULL")


def _nothing(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    return (), None


def _no_pause_of_its_own(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    if args[0].actor == "daemon":
        return None, None
    return _ask(simulation, "set_control", args, options)


def _receipt_only(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    """Says 2xx and keeps nothing."""
    return Receipt(accepted=1, alerts=(10_000,)), None  # type: ignore[arg-type]


def _seal_a_lie(simulation: Simulation, _args: tuple[Any, ...], _value: Any) -> None:
    _run(simulation, "UPDATE audit_event SET body = body || ' ' WHERE id = (SELECT MAX(id) FROM audit_event)")


def _sent_already(simulation: Simulation, _args: tuple[Any, ...], _value: Any) -> None:
    _run(simulation, "UPDATE outbox SET sent_at = 1 WHERE sent_at IS NULL")


def _fault(simulation: Simulation, args: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    """A fault of the program, after which a daemon goes on; here it must be loud all the same."""
    return None, TypeError("on purpose")


def _of(invariant: str, made: Any) -> Sabotage:
    method, serve = made
    return Sabotage(invariant, {method: serve})


SABOTAGE: dict[str, Sabotage] = {
    "no-epoch-check": _of("a zombie changes no state", _changed("move", _any_epoch)),
    "drops-the-lock": _of(
        "a lock is held until its run ends, or a person frees it",
        _then("admit", lambda s, args, _v: _run(s, "DELETE FROM target_lock WHERE run = ?", args[0].id)),
    ),
    "does-not-count": _of(
        "sliding budgets hold",
        _then(
            "admit", lambda s, args, _v: _run(s, "UPDATE intent SET counted = 0 WHERE run = ?", args[0].id)
        ),
    ),
    "no-budget": _of("sliding budgets hold", _changed("admit", _admission(limits=()))),
    "no-cooldown": _of("cooldown", _changed("admit", _admission(cooldown=Millis(0)))),
    "no-concurrency": _of(
        "concurrency", _changed("admit", _admission(concurrent_policy=99, concurrent_global=99))
    ),
    "no-pause": Sabotage(
        "nothing acts while paused",
        {"admit": _without(ControlKind.PAUSE), "facts": _facts(_brakeless(ControlKind.PAUSE))},
    ),
    "no-resolve": Sabotage(
        "a resolve before ADMIT cancels",
        {
            "admit": _changed("admit", _admission(need_firing=False))[1],
            "facts": _facts(_all_firing),
        },
    ),
    "no-quarantine": _of("a call in doubt is quarantined", _changed("move", _no_quarantine)),
    "forgets-the-prior": _of("a lease keeps the oldest prior value", _changed("move", _wrong_prior)),
    "unknown-is-not-applied": _of("what is said not to be applied is not", _changed("move", _blind_reissue)),
    "keeps-no-account": _of(
        "the audit log tells what became of every call", _changed("move", _without_verdict)
    ),
    "changes-the-log": _of("the audit chain is whole", _then("seal", _seal_a_lie)),
    "loses-alerts": Sabotage("an accepted alert is never lost", {"accept": _receipt_only}),
    "stands-still": _of("every run comes to an end", _then("move", _far_timer)),
    "tells-nobody": _of("a message is sent before it is called sent", _then("move", _sent_already)),
    "worker-calls-twice": Sabotage("an intent's call is issued at most once"),
    "no-data-is-health": Sabotage("no data is not health"),
    "no-window": Sabotage("no action starts in a window"),
    "no-storm": Sabotage(
        "no action starts in a storm",
        {"admit": _no_storm, "facts": _facts(_brakeless(ControlKind.STORM)), "arrivals": _no_arrivals},
    ),
    "no-breaker": Sabotage(
        "a policy that does not heal loses its licence",
        {
            "admit": _without(ControlKind.BREAKER),
            "facts": _facts(_brakeless(ControlKind.BREAKER)),
            "controls": _no_breakers,
        },
    ),
    "asks-nobody": Sabotage(
        "what needs approval is approved, in time and for this plan",
        {"admit": _changed("admit", _unasked)[1], "approvals": _answers(_always_yes)},
    ),
    "does-more-than-was-shown": Sabotage(
        "an approval is used once, and for no more than was shown",
        {"approvals": _answers(_for_all), "move": _then("move", _shown_less)[1]},
    ),
    "forgets-what-came-late": Sabotage(
        "a late outcome is kept, and changes no state", {"evidence": _nothing}
    ),
    "ignores-the-clock": Sabotage("a jump of the clock pauses", {"set_control": _no_pause_of_its_own}),
    "has-a-fault": Sabotage("the engine never breaks off", {"claim": _fault}),
    "unbounded-plan": Sabotage("blast radius and bounds"),
}
"""By name; see `docs/invariants.md`."""
