"""What the windows say about one policy and one target at one time. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from remediator.model import DAY, Instant
from remediator.policy.span import LOOK, next_change
from remediator.policy.window import Window


@dataclass(frozen=True, slots=True)
class Ruling:
    """wait: no action may start; observe: only a plan may be made; None: nothing stands in the way.

    window: the window that says so, or the names of those of which none is open.
    since, until: between these the answer stays the same, except that an `until` of wait or observe may
        be followed by the same answer. None where that is more than `span.LOOK` days away.
    outside: whether the policy waits for one of its `only_during` windows.
    next: the window whose edge `until` is.
    """

    effect: Literal["wait", "observe"] | None
    window: str = ""
    since: Instant | None = None
    until: Instant | None = None
    outside: bool = False
    next: str = ""


_FREE = Ruling(None)


def ruling(
    windows: Mapping[str, Window], only_during: Collection[str], names: Collection[str], now: Instant
) -> Ruling:
    """Ask all windows that concern a target and a policy.

    Args:
        windows: by name.
        only_during: names of the windows in which alone the policy acts. One that is not among
            `windows` (any more) is never open.
        names: every name by which the target is known. A window that covers one of them covers it.
    """
    if not windows and not only_during:
        return _FREE
    concerned = [one for one in windows.values() if one.effect and one.covers(names)]
    found = [(one, one.spans.at(now)) for one in concerned]
    for effect in ("wait", "observe"):
        on = [(one, span) for one, span in found if span.open and one.effect == effect]
        if on:
            # the one that ends last: whoever waits for it need not look in between
            last, span = max(on, key=lambda entry: _late(entry[1].until))
            return Ruling(last.effect, last.name, span.since, span.until)
    since = [span.since for _, span in found if span.since is not None]
    until = [(span.until, one.name) for one, span in found if span.until is not None]
    if only_during:
        own = [(name, windows[name].spans.at(now)) for name in only_during if name in windows]
        inside = [(name, span) for name, span in own if span.open]
        if not inside:
            opens = [span.until for _, span in own if span.until is not None]
            return Ruling("wait", ", ".join(only_during), until=min(opens, default=None), outside=True)
        since += [min((span.since for _, span in inside if span.since is not None), default=now)]
        name, span = max(inside, key=lambda entry: _late(entry[1].until))
        if span.until is not None:
            until.append((span.until, name))
    end, name = min(until, default=(None, ""))
    return Ruling(None, since=max(since, default=None), until=end, next=name)


def both(one: Ruling, other: Ruling) -> Ruling:
    """What two rulings of the same time say together, where the first lets an action start."""
    if other.effect is not None:
        return other
    since = max((at for at in (one.since, other.since) if at is not None), default=None)
    first = min((one, other), key=lambda ruling: _late(ruling.until))
    return Ruling(None, since=since, until=first.until, next=first.next)


def _late(until: Instant | None) -> float:
    return float("inf") if until is None else until


def ever_open(windows: Mapping[str, Window], only_during: Collection[str]) -> bool:
    """Whether a policy can act at all within its `only_during` windows: whether at some time one of them
    is open while no window of effect `wait` holds everything back.

    A year stands for all; for a window of certain years, one of those.
    """
    own = [windows[name] for name in only_during if name in windows]
    against = [one for one in windows.values() if one.effect == "wait" and not one.targets]
    if not own or not against:
        return bool(own)
    for year in sorted({interval.sample_year for one in own for interval in one.time_intervals}):
        now: Instant | None = _january(year)
        end = _january(year + 1)
        while now is not None and now < end:
            if any(one.spans.at(now).open for one in own) and not any(
                one.spans.at(now).open for one in against
            ):
                return True
            ahead = next_change((*own, *against), now)
            now = ahead if ahead is not None else Instant(now + LOOK * DAY)
    return False


def _january(year: int) -> Instant:
    return Instant(int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000)
