"""pydantic's faults in the words of a policy's author: what is wrong, what is allowed, what was meant."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel

from remediator.policy.faults import did_you_mean, shorten


def worded(item: Any, model: type[BaseModel], prefix: str = "") -> tuple[str, bool]:
    """One entry of `ValidationError.errors()`.

    Args:
        item: the entry.
        model: the model that was validated; unknown keys are looked up in it.
        prefix: put before messages about unknown and missing keys.

    Returns:
        The message, and whether it is about the key and not its value.
    """
    loc, kind, seen = item["loc"], item["type"], item["input"]
    last = shorten(str(loc[-1])) if loc else ""
    if kind == "extra_forbidden":
        known = keys_at(model, loc[:-1])
        return f"{prefix}unknown key {last!r}{did_you_mean(last, known)}", True
    if kind == "missing":
        return f"{prefix}{last!r} is missing", True
    if kind in ("enum", "literal_error"):
        allowed = str(item["ctx"]["expected"]).replace("'", "")
        names = allowed.replace(" or ", ", ").split(", ")
        hint = did_you_mean(str(seen), names) if "did you mean" in did_you_mean(str(seen), names) else ""
        return f"{last} is {shorten(seen)}; allowed: {allowed}{hint}", False
    if kind == "string_type":
        if isinstance(seen, bool | int | float):
            return f"{last} must be text; put {shorten(_as_written(seen))} in quotes", False
        return f"{last} must be text, not {_named(seen)}", False
    if kind in ("tuple_type", "list_type"):
        return f"{last} must be a list, not {_named(seen)}; put [ ] around it", False
    if kind in ("dict_type", "mapping_type", "model_type"):
        return f"{last or 'the file'} must be keys with values, not {_named(seen)}", False
    if kind in ("too_short", "too_long") and "actual_length" in item["ctx"]:
        bound = item["ctx"].get("min_length", item["ctx"].get("max_length"))
        side = "at least" if kind == "too_short" else "at most"
        return f"{last} has {item['ctx']['actual_length']} entries; {side} {bound} must stand there", False
    if kind == "string_pattern_mismatch":
        return f"{last} is {shorten(seen)!r}; allowed: {item['ctx']['pattern']}", False
    message = str(item["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return (f"{last}: {message}" if isinstance(loc[-1] if loc else None, str) else message), False
    shown = f" (it is {shorten(seen)})" if isinstance(seen, str | int | float) else ""
    return f"{prefix}{last}: {message[:1].lower()}{message[1:]}{shown}", False


def keys_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """The keys that may stand at a path below a model."""
    found: type[BaseModel] | None = model
    for step in loc:
        if found is None:
            return []
        if isinstance(step, int) or (step not in _keys(found)):
            continue  # an item of a list, or a name of a mapping: the model is the same
        found = _model_in(_keys(found)[step])
    return sorted(_keys(found)) if found is not None else []


def _keys(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _as_written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _named(value: object) -> str:
    if value is None:
        return "nothing"
    names = {dict: "keys with values", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "a number")
