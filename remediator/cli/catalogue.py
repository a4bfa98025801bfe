"""`actions` and `checks`: what policies can do and look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from remediator.cli import terminal
from remediator.cli.invocation import Invocation
from remediator.cli.verb import group, verb

if TYPE_CHECKING:
    from remediator.contracts import Action, Check

actions = group()
checks = group()

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


@verb(actions)
def actions_(
    call: Invocation,
    name: Annotated[str | None, typer.Argument(help="Show this one whole.", show_default=False)] = None,
) -> None:
    """List the actions; with NAME show one with its parameters, permissions and an example."""
    known = call.catalogue.actions()
    if name is not None:
        found = _named(name, known, "action")
        call.print(action_json(found), _whole(action_json(found)))
        return
    rows = [(one.name, one.risk, "no" if one.irreversible else "yes", one.summary) for one in known]
    call.print(
        [action_json(one) for one in known], terminal.table(("ACTION", "RISK", "UNDO", "WHAT IT DOES"), rows)
    )


@verb(checks)
def checks_(
    call: Invocation,
    name: Annotated[str | None, typer.Argument(help="Show this one whole.", show_default=False)] = None,
) -> None:
    """List the checks; with NAME show one with its parameters, permissions and an example."""
    known = call.catalogue.checks()
    if name is not None:
        found = _named(name, known, "check")
        call.print(check_json(found), _whole(check_json(found)))
        return
    rows = [(one.name, one.unit or "number", one.summary) for one in known]
    call.print([check_json(one) for one in known], terminal.table(("CHECK", "UNIT", "WHAT IT READS"), rows))


def action_json(action: Action[Any]) -> dict[str, Any]:
    """Everything an action declares."""
    from remediator.model import span

    return {
        "name": action.name,
        "summary": action.summary,
        "risk": str(action.risk),
        "undo": action.irreversible or "it can be put back",
        "changes": list(action.fields),
        "blast radius in": action.blast_unit,
        "idempotency": action.idempotency.kind,
        "landing time": span(action.landing_time),
        "parameters": _parameters(action.params),
        "permissions": _permissions(action),
        "example": dict(action.example),
    }


def check_json(check: Check[Any]) -> dict[str, Any]:
    """Everything a check declares."""
    from remediator.model import span

    return {
        "name": check.name,
        "summary": check.summary,
        "unit": check.unit or "number",
        "stale after": span(check.max_age),
        "parameters": _parameters(check.params),
        "permissions": _permissions(check),
        "example": dict(check.example),
    }


def _parameters(model: Any) -> list[dict[str, Any]]:
    from remediator.contracts import ConnectionOf
    from remediator.policy import marks

    shown = model.model_json_schema(by_alias=True)
    wanted = shown.get("required", [])
    rows = []
    for name, annotation in marks.parameters(model).items():
        field = next(one for key, one in model.model_fields.items() if (one.alias or key) == name)
        kinds = [mark.kind for mark in field.metadata if isinstance(mark, ConnectionOf)]
        rows.append(
            {
                "name": name,
                "required": name in wanted,
                "kind": f"{kinds[0]} connection" if kinds else _kind(shown["properties"].get(name, {})),
                "default": shown["properties"].get(name, {}).get("default"),
                "from labels": marks.selector(annotation) is not None,
                "description": field.description or "",
            }
        )
    return rows


def _kind(shape: dict[str, Any]) -> str:
    if "enum" in shape:
        return " | ".join(map(str, shape["enum"]))
    if "anyOf" in shape:
        kinds = [_kind(one) for one in shape["anyOf"] if one.get("type") != "null"]
        return " | ".join(dict.fromkeys(kinds))
    bounds = [f"{sign} {shape[key]}" for key, sign in _BOUNDS.items() if key in shape]
    names = {"string": "text", "array": "list", "object": "mapping"}
    kind = names.get(str(shape.get("type")), str(shape.get("type", "value")))
    return " ".join([kind, *bounds])


def _permissions(thing: Action[Any] | Check[Any]) -> list[dict[str, str]]:
    return [{"system": one.system, "grant": one.grant, "why": one.why} for one in thing.permissions]


def _named(name: str, known: Any, kind: str) -> Any:
    from remediator.errors import NotFound
    from remediator.policy.faults import did_you_mean

    found = next((one for one in known if one.name == name), None)
    if found is None:
        raise NotFound(f"no {kind} is named {name!r}{did_you_mean(name, [one.name for one in known])}")
    return found


def _whole(one: dict[str, Any]) -> str:
    import yaml

    inner = ("parameters", "permissions", "example")
    parameters = [
        (
            row["name"],
            row["kind"],
            "required" if row["required"] else f"default {terminal.cell(row['default'])}",
            "yes" if row["from labels"] else "no",
            row["description"],
        )
        for row in one["parameters"]
    ]
    permissions = [(row["system"], row["grant"], row["why"]) for row in one["permissions"]]
    example = yaml.safe_dump([one["example"]], sort_keys=False, allow_unicode=True).rstrip()
    return "\n\n".join(
        [
            terminal.pairs([(key, value) for key, value in one.items() if key not in inner]),
            terminal.table(("PARAMETER", "KIND", "", "FROM LABELS", "MEANING"), parameters, "no parameters"),
            terminal.table(("SYSTEM", "PERMISSION", "WHY"), permissions, "needs no permission"),
            f"{terminal.bold('Example')}\n{example}",
        ]
    )
