"""Why something did, or did not, happen about an alert.

Nothing is stored for this: which policies match, and why the others do not, is computed again
from the stored alert and the policy revision that was active when it came.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from remediator.contracts import Store
from remediator.engine import shapes
from remediator.engine.headline import following, headline
from remediator.engine.incident.shape import IncidentShape, shape
from remediator.engine.story import story
from remediator.engine.timeline import Line, line
from remediator.errors import ConfigurationError, NotFound
from remediator.model import (
    Alert,
    AlertId,
    AuditRecord,
    Episode,
    Instant,
    Origin,
    Outcome,
    Run,
    RunId,
    Struct,
)
from remediator.policy import source
from remediator.policy.schema import Policy
from remediator.policy.set import PolicySet

PoliciesOf = Callable[[str], Awaitable[PolicySet]]
"""The policy set of a revision. Raises ConfigurationError or NotFound."""

NEAREST = 5
_EVENTS = 500


class Answer(Struct, frozen=True, kw_only=True):
    """Whether one policy matches the alert, and if not, the first condition that does not hold.

    held: how many of its `of` matchers hold; the sender (`from`) is not counted among them.
    """

    policy: str
    matched: bool
    matcher: str = ""
    observed: str = ""
    allowed: str = ""
    held: int = 0
    of: int = 0


class RunAnswer(Struct, frozen=True, kw_only=True):
    """One run about the alert, what it did, and what comes next ("" when it has ended).

    attached: another alert opened it, and this one joined.
    """

    run: shapes.RunShape
    intents: tuple[shapes.IntentShape, ...]
    next: str
    attached: bool


class Explanation(Struct, frozen=True, kw_only=True):
    """Everything there is to say about one alert; as it stands here it is also the API's answer.

    matched: the policies that match. near: the nearest that do not, best first; further: how many
    more there are. note: why the policies of then cannot be read today, else "".
    """

    alert: shapes.AlertShape
    headline: str
    runs: tuple[RunAnswer, ...]
    incidents: tuple[IncidentShape, ...]
    timeline: tuple[Line, ...]
    matched: tuple[Answer, ...]
    near: tuple[Answer, ...]
    further: int
    note: str


async def explain(
    store: Store,
    policies_of: PoliciesOf,
    alert_id: AlertId,
    *,
    policy: str | None = None,
    nearest: int = NEAREST,
) -> Explanation:
    """Explain an alert.

    Args:
        policy: ask about this policy only.
        nearest: how many policies that do not match to name.

    Raises:
        NotFound: no such alert.
        ConfigurationError: `policy` is not in the alert's revision.
    """
    episode = await store.episode(alert_id)
    runs = [run for run in await store.find_runs(alert=alert_id) if policy in (None, run.policy)]
    policies, note = await _policies(policies_of, episode.policy_revision)
    matched, others = _answers(policies, episode.alert, policy)
    # A person named it: whether its matchers hold was not asked.
    named = {run.policy for run in runs if run.origin is Origin.HAND}
    others = [answer for answer in others if answer.policy not in named]
    now = await store.now()
    next_ = {run.id: await _next(policies_of, run, now) for run in runs}
    return Explanation(
        alert=shapes.alert(episode),
        headline=_headline(episode, runs, next_, matched, others, policies, note, policy),
        runs=tuple([await _run_answer(store, run, alert_id, next_[run.id]) for run in runs]),
        incidents=tuple(shape(one) for one in await store.find_incidents(alert=alert_id)),
        timeline=await _timeline(store, alert_id, runs, everything=policy is None),
        matched=tuple(matched),
        near=tuple(others[:nearest]),
        further=max(0, len(others) - nearest),
        note=note,
    )


async def _policies(policies_of: PoliciesOf, revision: str) -> tuple[PolicySet | None, str]:
    if not revision:
        return None, "no policies were active when the alert came"
    try:
        return await policies_of(revision), ""
    except (ConfigurationError, NotFound) as error:
        first = str(error).splitlines()[0]
        return None, f"policy revision {revision[:12]} cannot be read with today's settings: {first}"


async def _next(policies_of: PoliciesOf, run: Run, now: Instant) -> str:
    policies, _ = await _policies(policies_of, run.policy_revision) if run.open else (None, "")
    found = policies.policies.get(run.policy) if policies is not None else None
    return following(run, now, found.give_up if found is not None else None)


async def _run_answer(store: Store, run: Run, alert: AlertId, next: str) -> RunAnswer:
    return RunAnswer(
        run=shapes.run(run),
        intents=tuple(shapes.intent(intent) for intent in await store.intents(run.id)),
        next=next,
        attached=run.alert != alert,
    )


# ---------------------------------------------------------------- matching, again


def _answers(policies: PolicySet | None, alert: Alert, only: str | None) -> tuple[list[Answer], list[Answer]]:
    """The policies that match, by name, and those that do not, nearest first."""
    if policies is None:
        return [], []
    names: Iterable[str] = policies.policies if only is None else (only,)
    matched: list[Answer] = []
    others: list[tuple[int, int, str, Answer]] = []
    for name in names:
        result = policies.explain(name, alert)
        if result.matched:
            matched.append(Answer(policy=name, matched=True))
            continue
        held, near, of = _held(policies.policies[name], alert.labels)
        answer = Answer(
            policy=name,
            matched=False,
            matcher=result.matcher,
            observed=result.observed,
            allowed=result.allowed,
            held=held,
            of=of,
        )
        others.append((-near, of - held, name, answer))
    others.sort(key=lambda entry: entry[:3])
    return matched, [entry[3] for entry in others]


def _held(policy: Policy, labels: Mapping[str, str]) -> tuple[int, int, int]:
    """How many matchers hold, how near that is, and how many there are.

    `!=` and `!~` hold for nearly every alert, so they do not count as near.
    """
    matchers = source.matchers(policy)
    holding = [matcher for matcher in matchers if matcher.matches(labels)]
    return len(holding), sum(not matcher.op.startswith("!") for matcher in holding), len(matchers)


# ---------------------------------------------------------------- words


def left_standing(runs: Sequence[Run]) -> Run | None:
    """The latest run that was to return a lease and left it to a person."""
    given_up = (run for run in runs if run.origin is Origin.LEASE and run.outcome is Outcome.ESCALATED)
    return max(given_up, key=lambda run: run.id, default=None)


def _headline(
    episode: Episode,
    runs: Sequence[Run],
    next: Mapping[RunId, str],
    matched: Sequence[Answer],
    others: Sequence[Answer],
    policies: PolicySet | None,
    note: str,
    only: str | None,
) -> str:
    if runs:
        # The run that says most: one that is open, else one that acted, else the newest.
        first = max(runs, key=lambda run: (run.open, bool(run.progress.applied), run.id))
        more = len(runs) - 1
        said = headline(first, next[first.id])
        # What was lent and stays is a person's to put back, however well its run ended.
        kept = left_standing(runs)
        if kept is not None and kept is not first:
            said, more = f"{said}. {headline(kept)}", more - 1
        if not more:
            return said
        return said + (f" (and {more} more {'run' if more == 1 else 'runs'}, below)" if more else "")
    if policies is None:
        return f"Nothing was done, and why cannot be told: {note}"
    if matched:
        names = ", ".join(answer.policy for answer in matched)
        # What came as news of an end alone has ended as it came: no run was ever opened for it.
        if episode.resolved_at == episode.received_at:
            return f"Nothing was done: policy {names} matches, but the alert had already ended when it came"
        return (
            f"What was done is not kept any more: policy {names} matched, and its run was deleted after "
            f"retention.run; what the audit log still has: remediator audit query --alert {episode.id}"
        )
    if not policies.policies:
        return "Nothing was done: there were no policies when the alert came"
    nearest = others[0]
    why = f"{nearest.matcher} does not hold: {nearest.observed}"
    if nearest.matcher == "from":
        why = f"the alert came from {nearest.observed}, it listens to {nearest.allowed or 'nobody'}"
    if only is not None:
        return f"Nothing was done by policy {only}: {why}"
    if len(others) == 1:
        return f"Nothing was done: the only policy, {nearest.policy}, does not match: {why}"
    near = "the nearest is" if nearest.held else "and none is near, for example"
    return f"Nothing was done: none of {len(others)} policies matches, {near} {nearest.policy}: {why}"


async def _timeline(store: Store, alert: AlertId, runs: Sequence[Run], everything: bool) -> tuple[Line, ...]:
    found: dict[tuple[str, int], AuditRecord] = {}
    gaps: dict[tuple[str, int], Line] = {}
    # A run that another alert opened carries that alert's id, so it is asked for by its own.
    for run in runs:
        records, gap = await story(store, _EVENTS, run=run.id)
        found |= {_key(record): record for record in records}
        if gap is not None:
            gaps[_key(records[gap - 1])] = _gap(records[gap - 1], f"--run {run.id}", run.id)
    records, gap = await story(store, _EVENTS, alert=alert)
    told = [record for record in records if everything or record.event.run is None]
    found |= {_key(record): record for record in told}
    if gap is not None and not gaps and _key(records[gap - 1]) in found:
        gaps[_key(records[gap - 1])] = _gap(records[gap - 1], f"--alert {alert}", None)
    ordered = sorted(
        found.values(), key=lambda record: (record.at, record.source != "alert_event", record.id)
    )
    lines: list[Line] = []
    for record in ordered:
        lines.append(line(record))
        if _key(record) in gaps:
            lines.append(gaps[_key(record)])
    return tuple(lines)


def _key(record: AuditRecord) -> tuple[str, int]:
    return record.source, record.id


def _gap(after: AuditRecord, about: str, run: RunId | None) -> Line:
    """The line that says that events are left out."""
    text = f"… events are left out here; all of them: remediator audit query {about} --oldest-first"
    return Line(at=shapes.time(after.at), kind="", text=text, actor="daemon", run=run)
