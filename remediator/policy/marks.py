"""The marks on an action's or check's parameters: which may be selected by a label."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from remediator.contracts import Selector


def selector(annotation: object) -> Selector | None:
    """The `Selector` of a parameter's annotation, also inside a union with None."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        for mark in metadata:
            if isinstance(mark, Selector):
                return mark
        return selector(inner)
    if get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            if (found := selector(part)) is not None:
                return found
    return None


@lru_cache(maxsize=4096)
def parameters(model: type[BaseModel]) -> Mapping[str, Any]:
    """Each parameter's annotation with its marks, by the name it has in a policy."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        for mark in field.metadata:
            annotation = Annotated[annotation, mark]
        found[field.alias or name] = annotation
    return found


def within(annotation: object) -> Any:
    """The annotation of a list's items or a mapping's values; None where there is none."""
    if get_origin(annotation) is Annotated:
        return within(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := within(part)) is not None), None)
    parts = [part for part in get_args(annotation) if part is not ...]
    return parts[-1] if parts else None


def leaves(
    with_: Mapping[str, Any], model: type[BaseModel]
) -> Iterator[tuple[tuple[str | int, ...], str, Any]]:
    """Every text in the parameters: its path, the text, the annotation it falls under."""
    known = parameters(model)
    for name, value in with_.items():
        yield from _leaves((name,), value, known.get(name))


def _leaves(
    path: tuple[str | int, ...], value: Any, annotation: Any
) -> Iterator[tuple[tuple[str | int, ...], str, Any]]:
    if isinstance(value, str):
        yield path, value, annotation
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves((*path, key), item, below(annotation, key))
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _leaves((*path, position), item, within(annotation))


def below(annotation: Any, key: str) -> Any:
    bare = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return parameters(bare).get(key)
    return within(annotation)
