"""Renders the reference of all settings from the models themselves, for docs/settings.md.

`python -m remediator.settings.reference docs/settings.md` rewrites the file's generated part.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from remediator.model import Millis, span
from remediator.settings import connections, senders
from remediator.settings.root import Settings
from remediator.settings.sections import NotifierSettings, Token

START = "<!-- generated from the models by python -m remediator.settings.reference; do not edit below -->\n"
_NAMED: dict[str, tuple[type[BaseModel], ...]] = {
    "senders": (senders.Sender, senders.Auth, senders.Value),
    "connections": (
        connections.PrometheusConnection,
        connections.PostgresConnection,
        connections.HttpConnection,
        connections.AwsConnection,
        connections.GcpConnection,
        connections.KubernetesConnection,
    ),
    "notifiers": (NotifierSettings,),
}
_PREFIX: dict[type[BaseModel], str] = {
    senders.Auth: "senders.<name>.auth.",
    senders.Value: "senders.<name>.value.",
    Token: "access.tokens[].",
}


def render() -> str:
    """All sections as Markdown."""
    return "\n".join(_sections())


def _sections() -> Iterator[str]:
    plain: list[str] = []
    for name, field in Settings.model_fields.items():
        model = field.annotation
        if name in _NAMED:
            for named in _NAMED[name]:
                yield from _table(named, _PREFIX.get(named, f"{name}.<name>."))
        elif isinstance(model, type) and issubclass(model, BaseModel):
            yield from _table(model, f"{name}.")
            if name == "access":
                yield from _table(Token, _PREFIX[Token])
        else:
            plain.append(_row(name, field, _docs(Settings).get(name, "")))
    yield "### The rest\n"
    yield from _HEAD
    yield from plain


_HEAD = ("| key | default | meaning |", "|---|---|---|")


def _table(model: type[BaseModel], prefix: str) -> Iterator[str]:
    yield f"### {prefix.rstrip('.')}{_kind(model)}\n"
    yield (inspect.getdoc(model) or "") + "\n"
    yield from _HEAD
    docs = _docs(model)
    for name, field in model.model_fields.items():
        if name != "kind" or model is senders.Sender:
            yield _row(prefix + (field.alias or name), field, docs.get(name, ""))
    yield ""


def _kind(model: type[BaseModel]) -> str:
    kind = model.model_fields.get("kind")
    if kind is None or kind.is_required():
        return ""
    return f" (kind: {kind.default})"


def _row(key: str, field: FieldInfo, text: str) -> str:
    text = " ".join(text.split())
    values = field.annotation
    if get_origin(values) is Literal:
        allowed = ", ".join(f"`{value}`" for value in get_args(values))
        text = f"{text} One of {allowed}.".strip()
    return f"| `{key}` | {_default(field)} | {text} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.default
    if value is senders.SEVERITIES:
        return "see docs/senders.md"
    if value is None or value == "" or value == () or value == {} or isinstance(value, BaseModel | SecretStr):
        return ""
    if isinstance(value, dict):
        return "`{" + ", ".join(f"{_plain(key)}: {_plain(one)}" for key, one in value.items()) + "}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return "`{" + ", ".join(f"{key}: {inner}" for key, inner in value.items()) + "}`"
    if _duration(field):
        return f"`{span(value)}`"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _duration(field: FieldInfo) -> bool:
    return field.annotation is Millis


def _docs(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field."""
    tree = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for one, following in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            found[one.target.id] = inspect.cleandoc(str(following.value.value))
    return found


def main() -> None:
    """Rewrite the generated part of the file named on the command line."""
    path = Path(sys.argv[1])
    head, _, _ = path.read_text(encoding="utf-8").partition(START)
    path.write_text(head + START + render() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
