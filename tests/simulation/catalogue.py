"""The actions and checks that policies name here: real ones, of a world that is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from remediator.contracts import (
    Action,
    Check,
    Context,
    Idempotency,
    Nothing,
    Observed,
    Params,
    Permission,
    Selector,
    Settled,
)
from remediator.errors import Permanent, Refused
from remediator.model import (
    SECOND,
    Blast,
    Episode,
    Instant,
    Landed,
    Millis,
    Plan,
    Reading,
    Reason,
    Risk,
    Target,
)
from tests.simulation.loop import HOST
from tests.simulation.policies import KEYS, MOST
from tests.simulation.provider import LANDING, VALID, Call, Deferred, Provider


class GroupParams(Params):
    group: Annotated[str, Selector("[a-z0-9-]{1,40}")]


class ResizeParams(GroupParams):
    add: int = Field(ge=1, le=20)
    max: int = Field(le=100)
    by: int = Field(default=0, ge=0, le=20)


class _OfGroup(Action[Any]):
    """What all actions here share."""

    settle_time = Millis(60 * SECOND)
    landing_time = Millis(int(LANDING * 1000))
    permissions = (Permission("sim", "sim:Change", "to change"),)
    blast_unit = "members"
    dedupe = False

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def target_name(self, params: GroupParams) -> str:
        return f"sim:{params.group}"

    def observe(self, context: Context, params: GroupParams) -> Observed:
        def work() -> Observed:
            key = KEYS.get(params.group)
            if key is None:
                raise Permanent(f"no group {params.group!r}")
            group = self.provider.groups[key]
            target = Target(name=f"sim:{params.group}", key=key)
            fields = {name: getattr(group, name) for name in self.fields}
            return Observed(target=target, fields=fields, version=str(group.version))

        raise Deferred(work)

    def apply(self, context: Context, plan: Plan, token: str) -> dict[str, Any]:
        call = Call(token, self.name, plan.target.key, plan.before, plan.after, HOST.get(), 0.0)
        version = plan.version if self.idempotency.kind == "conditional" else None

        def work() -> dict[str, Any]:
            return self.provider.carry_out(call, self.dedupe, version)

        work.call = call  # type: ignore[attr-defined]
        raise Deferred(work)

    def settled(self, context: Context, plan: Plan) -> Settled:
        def work() -> Settled:
            group = self.provider.groups[plan.target.key]
            if group.broken:
                group.broken = False
                return Settled(done=False, failed="it broke")
            return Settled(done=self.provider.simulation.loop.time() >= group.busy_until)

        raise Deferred(work)

    def landed(self, observed: Observed, plan: Plan) -> Landed:
        (name, after), (_, before) = next(iter(plan.after.items())), next(iter(plan.before.items()))
        seen = observed.fields[name]
        if seen == after:
            return Landed.APPLIED
        return Landed.NOT_APPLIED if seen == before else Landed.UNCLEAR


class Resize(_OfGroup):
    """Adds to a group."""

    name = "sim.resize"
    summary = "Add to a group"
    params = ResizeParams
    risk = Risk.REVERSIBLE
    idempotency = Idempotency("probe")
    fields = ("size",)
    example = {"action": "sim.resize", "with": {"group": "a", "add": 2, "max": 10}}

    def plan(self, observed: Observed, params: ResizeParams, done: Sequence[Plan]) -> Plan | Nothing:
        size = observed.fields["size"]
        goal = min((done[0].before["size"] if done else size) + params.add, params.max)
        if self.provider.simulation.sabotage == "unbounded-plan":
            goal = size + 9
        if size >= goal:
            return Nothing(why=f"{size} already")
        after = min(goal, size + params.by) if params.by else goal
        return Plan(
            action=self.name,
            target=observed.target,
            before={"size": size},
            after={"size": after},
            blast=Blast(amount=after - size, whole=MOST, unit="members"),
            params=params.model_dump(),
            version=observed.version,
            more=after < goal,
        )

    def undo(self, observed: Observed, plan: Plan) -> Plan | Nothing:
        size = observed.fields["size"]
        if size == plan.before["size"]:
            return Nothing(why="already back")
        if size != plan.after["size"]:
            raise Refused(Reason.CHANGED_BY_PERSON, f"size is {size}", str(size), str(plan.after["size"]))
        return Plan(
            action=self.name,
            target=plan.target,
            before={"size": size},
            after={"size": plan.before["size"]},
            blast=plan.blast,
            params=plan.params,
            version=observed.version,
        )


class ResizeByToken(Resize):
    """At a provider that deduplicates by token."""

    name = "sim.resize_by_token"
    idempotency = Idempotency("token", valid=Millis(int(VALID * 1000)))
    dedupe = True


class ResizeIf(Resize):
    """At a provider that takes the version on which a change is based."""

    name = "sim.resize_if"
    idempotency = Idempotency("conditional")


class Restart(_OfGroup):
    """Cannot be undone, and nothing keeps a second call from acting."""

    name = "sim.restart"
    summary = "Restart a group"
    params = GroupParams
    risk = Risk.DISRUPTIVE
    irreversible = "a restart cannot be taken back"
    idempotency = Idempotency("none")
    fields = ("generation",)
    example = {"action": "sim.restart", "with": {"group": "a"}}

    def plan(self, observed: Observed, params: GroupParams, done: Sequence[Plan]) -> Plan | Nothing:
        generation = observed.fields["generation"]
        return Plan(
            action=self.name,
            target=observed.target,
            before={"generation": generation},
            after={"generation": generation + 1},
            blast=Blast(amount=1, whole=MOST, unit="members"),
            params=params.model_dump(),
            version=observed.version,
        )


class LevelParams(Params):
    group: Annotated[str, Selector("[a-z0-9-]{1,40}")] = "a"
    by: str = ""


class Level(Check[LevelParams]):
    """How full a group is."""

    name = "sim.level"
    summary = "A level"
    params = LevelParams
    unit = ""
    permissions = (Permission("sim", "sim:Read", "to read"),)
    example = {"check": "sim.level", "with": {"group": "a"}, "is": "> 50"}

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def read(self, context: Context, params: LevelParams) -> Reading:
        def work() -> Any:
            return self.provider.level(self.provider.groups[KEYS[params.group]])

        episode = context.episode
        work.note = (params.by, episode.id if episode is not None else 0)  # type: ignore[attr-defined]
        raise Deferred(work)


class Known:
    """The catalogue."""

    def __init__(self, provider: Provider) -> None:
        actions = (Resize(provider), ResizeByToken(provider), ResizeIf(provider), Restart(provider))
        self._actions: dict[str, Action[Any]] = {action.name: action for action in actions}
        self._checks: dict[str, Check[Any]] = {"sim.level": Level(provider)}

    def action(self, name: str) -> Action[Any] | None:
        return self._actions.get(name)

    def check(self, name: str) -> Check[Any] | None:
        return self._checks.get(name)

    def actions(self) -> Sequence[Action[Any]]:
        return tuple(self._actions.values())

    def checks(self) -> Sequence[Check[Any]]:
        return tuple(self._checks.values())


@dataclass(frozen=True)
class Given:
    """The context of a call: this world needs no connections."""

    now: Instant
    episode: Episode | None

    def client(self, kind: type[Any], connection: str) -> Any:
        raise Refused(Reason.UNKNOWN_CONNECTION, f"no connection {connection!r} here")
