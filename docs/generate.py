"""Writes the reference pages from the code, so that they cannot say anything else than the code does.

python -m docs.generate            write them
python -m docs.generate --check    name those that are out of date, and exit 1
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from remediator import quantity
from remediator.model import span
from remediator.settings import reference

HERE = Path(__file__).parent
NOTE = "<!-- Written by `make docs` from the code; change the code instead. -->"


# ---------------------------------------------------------------- models


def _texts(model: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field of a model and of its bases."""
    found: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if not (isinstance(one, type) and issubclass(one, BaseModel)) or one.__module__.startswith(
            "pydantic"
        ):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, after in zip(definition.body, definition.body[1:], strict=False):
            if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[statement.target.id] = " ".join(str(after.value.value).split())
    return found


def _kind(annotation: Any) -> str:
    """How a value is written in YAML."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        if any(isinstance(part, quantity.Duration) for part in annotation.__metadata__):
            return "duration"
        return _kind(arguments[0])
    if origin is typing.Literal:
        return " \\| ".join(f"`{word}`" for word in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(one) for one in arguments if one is not type(None))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"mapping of names to {_kind(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " \\| ".join(f"`{word.value}`" for word in annotation)
    names = {"str": "text", "int": "number", "bool": "true or false"}
    return names.get(annotation.__name__, str(annotation.__name__).lower())


def _default(value: Any, kind: str) -> str:
    if value is PydanticUndefined:
        return "required"
    if value in (None, (), {}, ""):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if kind == "duration":
        return f"`{span(value)}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _table(model: type[BaseModel]) -> Iterator[str]:
    texts = _texts(model)
    hints = typing.get_type_hints(model, include_extras=True)
    yield "| key | value | default | |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        kind = _kind(hints[name])
        yield f"| `{name}` | {kind} | {_default(field.default, kind)} | {_cell(texts.get(name, ''))} |"


def _cell(text: str) -> str:
    """Text for a table: outside of `code`, a < would begin an HTML element."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if place % 2 else part.replace("<", "\\<") for place, part in enumerate(parts))


def settings() -> Iterator[str]:
    """docs/settings.md: what a person wrote, and below the marker what the models say."""
    head, _, _ = (HERE / "settings.md").read_text().partition(reference.START)
    yield head + reference.START + reference.render()


# ---------------------------------------------------------------- catalogue


def catalogue() -> Iterator[str]:
    """docs/catalogue.md"""
    import yaml

    from remediator import wiring

    known = wiring.catalogue()
    yield "# Actions and checks"
    yield ""
    yield "What policies can do and look at. `remediator actions` and `remediator checks` print the same."
    for title, things in (("Actions", known.actions()), ("Checks", known.checks())):
        yield ""
        yield f"## {title}"
        for thing in things:
            yield ""
            yield f"### `{thing.name}`"
            yield ""
            yield thing.summary
            yield ""
            yield from _facts(thing)
            yield ""
            yield from _table(thing.params)
            yield ""
            yield "```yaml"
            yield yaml.safe_dump(dict(thing.example), sort_keys=False).rstrip()
            yield "```"


def _facts(thing: Any) -> Iterator[str]:
    if hasattr(thing, "risk"):
        undo = f"no: {thing.irreversible}" if thing.irreversible else "yes"
        yield f"- Risk: {thing.risk.value}. Can be undone: {undo}."
        yield f"- Counts {thing.blast_unit}. A lost call can take effect within {span(thing.landing_time)}."
    else:
        yield f"- Unit: {thing.unit or 'a plain number'}. Older than {span(thing.max_age)} is no data."
    for permission in thing.permissions:
        yield f"- Needs ({permission.system}) `{permission.grant}`: {permission.why}."


# ---------------------------------------------------------------- metrics


def metrics() -> Iterator[str]:
    """docs/metrics.md"""
    from remediator.metrics import REGISTRY

    yield "# Metrics"
    yield ""
    yield "`GET /metrics`, in the Prometheus text format. No metric has a target in its labels."
    yield ""
    yield "| metric | type | |"
    yield "|---|---|---|"
    for family in REGISTRY.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        name = f"{family.name}_info" if family.type == "info" else name
        yield f"| `{name}` | {family.type} | {family.documentation} |"


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "settings.md": settings,
    "catalogue.md": catalogue,
    "metrics.md": metrics,
}


def page(name: str) -> str:
    """The text of one page."""
    lines = list(PAGES[name]())
    return "\n".join(lines if name == "settings.md" else [NOTE, *lines]) + "\n"


def stale() -> list[str]:
    """The pages whose file is not what the code says."""
    return [name for name in PAGES if not (HERE / name).exists() or (HERE / name).read_text() != page(name)]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        old = stale()
        for name in old:
            print(f"docs/{name} is not what the code says; make docs")
        return 1 if old else 0
    for name in PAGES:
        (HERE / name).write_text(page(name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
