"""Windows are told of: ahead, when they begin, while they are open, and when they are over.

Each announcement has a key of its own in the store, written with the message: neither a restart nor another
replica says it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from remediator.contracts import Store
from remediator.engine.policies import Policies
from remediator.engine.shapes import time
from remediator.model import DAY, HOUR, AuditEvent, Instant, Message, Millis, Reason, Run, Severity, span
from remediator.notify import text
from remediator.policy.escalation import LOG
from remediator.policy.span import Spans
from remediator.policy.window import Window

log = structlog.get_logger()

_KEEP = Millis(60 * DAY)
"""How long it is remembered what was said: longer than any window is announced ahead."""
_LATE = Millis(HOUR)
"""The end of a window that nobody has told of for this long is old news."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Something to be said of a window.

    Args:
        key: of this very announcement.
        after: only if this has been said: nobody is told of the end of what they did not hear of.
    """

    key: str
    what: str
    headline: str
    after: str = ""


def due(window: Window, now: Instant) -> Sequence[Announcement]:
    """What is to be said of a window now, if it was not said yet. Pure."""
    here = window.spans.at(now)
    others = Spans(window.time_intervals)
    if here.open:
        return _open(window, now, here.since, here.until)
    found: list[Announcement] = []
    if here.since is not None and now - here.since < _LATE:
        begin = others.at(Instant(here.since - 1)).since
        found.append(
            Announcement(_key(window, begin, "end"), "end", "is over", after=_key(window, begin, "begin"))
        )
    if here.until is not None:
        # of several that were due while nobody was there to say them, only the nearest
        ahead = [before for before in sorted(window.announce) if here.until - before <= now]
        if ahead:
            end = others.at(here.until).until
            headline = f"begins in {span(_rounded(here.until - now))}, at {time(here.until)}{_until(end)}"
            found.append(Announcement(_key(window, here.until, f"{ahead[0]}"), "ahead", headline))
    return found


def _open(
    window: Window, now: Instant, since: Instant | None, until: Instant | None
) -> Sequence[Announcement]:
    if since is None:  # always open, as far as one can see
        return ()
    begin = Announcement(_key(window, since, "begin"), "begin", f"has begun{_until(until)}")
    turn = (now - since) // window.updates if window.updates is not None else 0
    if turn == 0:
        return (begin,)
    update = _key(window, since, f"update-{turn}")
    return (begin, Announcement(update, "update", f"is still open{_until(until)}", after=begin.key))


def told(
    window: Window, announcement: Announcement, waiting: Iterable[Run]
) -> tuple[AuditEvent, tuple[Message, ...]]:
    """The audit event and a message for each notifier. Pure.

    Args:
        waiting: the open runs that wait for a window.
    """
    held = [run for run in waiting if f"window {window.name} " in run.observed]
    lines = [f"Effect: {_EFFECTS[window.effect]}", f"Targets: {', '.join(window.targets) or 'all'}"]
    if announcement.what != "ahead":
        lines.append(f"Runs that wait for its end: {len(held)}")
        lines += [f"  run {run.id}, {run.policy} on {run.target or 'unknown'}" for run in held[:10]]
    names = [name for name in window.notify if name != LOG] or [""]
    messages = tuple(
        Message(
            chain=name,
            severity=Severity.P4,
            subject=f"[P4] window {window.name} {announcement.headline}",
            body=text.lines([*lines, "Look: remediator runs list --open"]),
        )
        for name in names
    )
    event = AuditEvent(
        kind="window.announced",
        observed=f"window {window.name} {announcement.headline}",
        data={"window": window.name, "what": announcement.what, "notify": list(window.notify)},
    )
    return event, messages


class Announcing:
    """Says what is due, at each of its turns."""

    def __init__(self, store: Store, policies: Policies) -> None:
        self._store = store
        self._policies = policies
        self._said: set[str] = set()

    async def __call__(self) -> None:
        current = self._policies.current
        telling = [one for one in current.windows.values() if one.notify] if current is not None else []
        if not telling:
            return
        now = await self._store.now()
        found = [(window, one) for window in telling for one in due(window, now)]
        asked = {key for _, one in found for key in (one.key, one.after) if key} - self._said
        self._said = {key for _, one in found for key in (one.key, one.after)} & self._said
        self._said |= await self._store.said(sorted(asked)) if asked else set()
        before = frozenset(self._said)
        for window, one in found:
            if one.key in before:
                continue
            if not one.after or one.after in before:
                await self._say(window, one, now)
            elif one.what == "update":  # its begin is only told now, and that says the same
                await self._store.once(one.key, Instant(now + _KEEP), ())

    async def _say(self, window: Window, announcement: Announcement, now: Instant) -> None:
        runs = await self._store.find_runs(open=True, limit=1000) if announcement.what != "ahead" else ()
        event, messages = told(window, announcement, (run for run in runs if run.reason is Reason.WINDOW))
        if await self._store.once(announcement.key, Instant(now + _KEEP), (event,), messages):
            log.info("window.announced", window=window.name, what=announcement.what)
        self._said.add(announcement.key)


_EFFECTS = {
    "wait": "no action starts within it; runs wait for its end, as long as their policies let them",
    "observe": "policies only plan within it",
    None: "policies that name it in `only_during:` act within it",
}


def _key(window: Window, begin: Instant | None, what: str) -> str:
    return f"window:{window.name}:{begin}:{what}"


def _until(end: Instant | None) -> str:
    return f", until {time(end)}" if end is not None else ""


def _rounded(left: int) -> int:
    """To the hour where there are days, else to the minute, so that people can read it."""
    unit = HOUR if left >= 2 * HOUR else 60_000
    return max(unit, round(left / unit) * unit)
