"""Labels into selectors: `${labels.queue}`, `${annotations.x}`, `${alert.fingerprint}`; `$$` is a `$`.

What an alert says is hostile. It may only stand where the action or check marks a parameter as a
`Selector`; the text is read once and never again, so `${…}` inside a label means nothing; the whole
result must fit the selector's pattern and then the parameter's own type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import re2
from pydantic import ValidationError

from remediator.contracts import Params, Selector
from remediator.errors import Refused
from remediator.model import Alert, Reason
from remediator.policy import marks
from remediator.policy.faults import did_you_mean, shorten

P = TypeVar("P", bound=Params)

MAX_LENGTH = 1024
"""No name of anything is longer; a longer label is refused before any pattern is tried."""

_TOKEN = re.compile(r"\$\$|\$\{([^{}]*)\}|\$\{")
_SOURCES = ("labels", "annotations")
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
# control characters, line and paragraph separators, direction overrides, halves of surrogate pairs
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def fault(text: str) -> str:
    """What is wrong with the references in a text; "" where nothing is."""
    for found in _TOKEN.finditer(text):
        if found[0] == "$$":
            continue
        inside = found[1]
        if inside is None:
            return f"{shorten(text)!r} has ${{ without }}; write $${{ for the characters themselves"
        source, dot, name = inside.partition(".")
        if inside == "alert.fingerprint" or (source in _SOURCES and dot and name and name == name.strip()):
            continue
        known = ["alert.fingerprint", f"labels.{name or 'x'}", f"annotations.{name or 'x'}"]
        return f"${{{shorten(inside)}}} is not known{did_you_mean(inside, known)}"
    return ""


def refers(text: str) -> bool:
    """Whether a text takes anything from the alert."""
    return any(found[0] != "$$" for found in _TOKEN.finditer(text))


def unescape(text: str) -> str:
    """A text without references, as it is meant: `$$` is `$`."""
    return text.replace("$$", "$")


def render(with_: Mapping[str, Any], params: type[P], alert: Alert) -> P:
    """The parameters for one alert.

    Args:
        with_: the use's parameters as written, already validated when the policy was loaded.
        params: the model of the action or check.
        alert: whose labels are put in.

    Returns:
        The validated parameters.

    Raises:
        Refused: (UNKNOWN_LABEL) the alert does not carry a label or annotation that is asked for.
        Refused: (INVALID_PARAMETER) a value does not fit; names the parameter, the value, the pattern.
    """
    ready = _prepare(with_, params)
    if ready.constant is not None:
        return ready.constant
    values = dict(ready.fixed)
    for name, value, annotation in ready.filled:
        values[name] = _render(name, value, annotation, alert)
    return _validate(params, values)


class With(dict[str, Any]):
    """Parameters as written, with what `render` has worked out from them once."""

    __slots__ = ("ready",)

    ready: tuple[type[Params], _Ready[Any]]


@dataclass(frozen=True, slots=True)
class _Ready(Generic[P]):
    """Of parameters: all of them where nothing comes from the alert; else the fixed ones and the rest."""

    constant: P | None
    fixed: dict[str, Any]
    filled: tuple[tuple[str, Any, Any], ...]


def _prepare(with_: Mapping[str, Any], params: type[P]) -> _Ready[P]:
    if isinstance(with_, With) and (kept := getattr(with_, "ready", None)) and kept[0] is params:
        return kept[1]  # type: ignore[no-any-return]
    taken = {path[0] for path, text, _ in marks.leaves(with_, params) if refers(text)}
    known = marks.parameters(params)
    fixed = {name: _unescaped(value) for name, value in with_.items() if name not in taken}
    filled = tuple((name, with_[name], known.get(name)) for name in with_ if name in taken)
    ready = _Ready(None if filled else _validate(params, fixed), fixed, filled)
    if isinstance(with_, With):
        with_.ready = (params, ready)
    return ready


def _validate(params: type[P], values: dict[str, Any]) -> P:
    try:
        return params.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the parameters"
        raise Refused(
            Reason.INVALID_PARAMETER,
            f"{where} is not usable: {first['msg']}",
            observed=shorten(first["input"]),
            allowed=first["msg"],
        ) from None


def _unescaped(value: Any) -> Any:
    if isinstance(value, str):
        return unescape(value)
    if isinstance(value, Mapping):
        return {key: _unescaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_unescaped(item) for item in value]
    return value


def _render(where: str, value: Any, annotation: Any, alert: Alert) -> Any:
    if isinstance(value, str):
        return _text(where, value, annotation, alert)
    if isinstance(value, Mapping):
        return {
            key: _render(f"{where}.{key}", item, marks.below(annotation, key), alert)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            _render(f"{where}.{at}", item, marks.within(annotation), alert) for at, item in enumerate(value)
        ]
    return value


def _text(where: str, text: str, annotation: Any, alert: Alert) -> str:
    if not refers(text):
        return unescape(text)
    if (mark := marks.selector(annotation)) is None:  # refused at load; never trusted to have been
        raise Refused(
            Reason.INVALID_PARAMETER,
            f"{where} may not be taken from an alert",
            observed=shorten(text),
            allowed="a fixed value",
        )
    result = _TOKEN.sub(_filler(where, alert), text)
    if allowed := misfit(result, mark):
        raise Refused(
            Reason.INVALID_PARAMETER,
            f"{where} does not fit: {shorten(result)}",
            observed=f"{where} = {shorten(result)}",
            allowed=allowed,
        )
    return result


def _filler(where: str, alert: Alert) -> Callable[[re.Match[str]], str]:
    def fill(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        inside = found[1] or ""
        source, _, name = inside.partition(".")
        if inside == "alert.fingerprint":
            return alert.fingerprint
        values = {"labels": alert.labels, "annotations": alert.annotations}.get(source, {})
        # an empty label is the same as none, as for matchers: it must not select "everything"
        if not values.get(name):
            known = ", ".join(sorted(shorten(key, 40) for key in list(values)[:30])) or "none at all"
            absent = f"none of that name among {known}"
            raise Refused(
                Reason.UNKNOWN_LABEL,
                f"{where} needs {shorten(inside)}, which the alert does not carry",
                observed=f"{shorten(inside)} is empty" if name in values else absent,
                allowed=f"an alert with {shorten(inside)}",
            )
        return values[name]

    return fill


@lru_cache(maxsize=4096)
def _pattern(pattern: str) -> Any:
    return re2.compile(pattern, options=_OPTIONS)


def misfit(value: str, mark: Selector) -> str:
    """Why a value does not fit a selector; "" where it does."""
    if len(value) > MAX_LENGTH:
        return f"at most {MAX_LENGTH} characters"
    return _misfit(value, mark)


@lru_cache(maxsize=4096)
def _misfit(value: str, mark: Selector) -> str:
    if _UNPRINTABLE.search(value):
        return "text without control characters"
    if _pattern(mark.pattern).fullmatch(value) is None:
        return mark.pattern
    return ""
