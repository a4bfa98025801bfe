"""The JSON Schema of a policy file, good enough for an editor to complete and check it."""

from __future__ import annotations

from typing import Any

from remediator.contracts import Action, Catalogue, Check
from remediator.model import span
from remediator.policy import marks
from remediator.policy.schema import Policy

_TEMPLATE = {"type": "string", "pattern": r"\$\{(labels|annotations)\.[^{}]+\}|\$\{alert\.fingerprint\}"}


def build(catalogue: Catalogue) -> dict[str, Any]:
    """The schema, with every action and check of the catalogue and their parameters.

    Returns:
        A JSON Schema (draft 2020-12; only keywords that draft-07 readers know, and `$defs`).
    """
    schema = Policy.model_json_schema(by_alias=True, mode="validation")
    definitions = schema["$defs"]
    actions, checks = list(catalogue.actions()), list(catalogue.checks())
    for name in ("ActionUse", "Remedy"):
        _enumerate(definitions[name], "action", actions, definitions)
    _enumerate(definitions["CheckUse"], "check", checks, definitions)
    _tidy(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A policy of remediator",
        **schema,
    }


def _enumerate(
    use: dict[str, Any], key: str, things: list[Action[Any]] | list[Check[Any]], definitions: dict[str, Any]
) -> None:
    if not things:
        return
    names = [{"const": thing.name, "description": thing.summary} for thing in things]
    use["properties"][key] = {"description": use["properties"][key].get("description", ""), "anyOf": names}
    rules = []
    for thing in things:
        definition = f"{key}:{thing.name}"
        _define(definition, thing, definitions)
        rules.append(
            {
                "if": {"properties": {key: {"const": thing.name}}, "required": [key]},
                "then": {"properties": {"with": {"$ref": f"#/$defs/{definition}"}}},
            }
        )
    use["allOf"] = rules


def _define(definition: str, thing: Action[Any] | Check[Any], definitions: dict[str, Any]) -> None:
    if definition in definitions:
        return
    schema = thing.params.model_json_schema(by_alias=True, ref_template=f"#/$defs/{definition}.{{model}}")
    for name, nested in schema.pop("$defs", {}).items():
        definitions[f"{definition}.{name}"] = nested
    marked = marks.parameters(thing.params)
    for name, shape in schema.get("properties", {}).items():
        if name in marked and marks.selector(marked[name]) is not None:
            described = {"description": shape.pop("description")} if "description" in shape else {}
            default = {"default": shape.pop("default")} if "default" in shape else {}
            schema["properties"][name] = {**described, **default, "anyOf": [shape, dict(_TEMPLATE)]}
    definitions[definition] = {"description": thing.summary, **schema}


def _tidy(node: Any) -> None:
    """Drop generated titles; show default durations as they are written."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("title"), str):
        del node["title"]
    if node.get("type") == "string" and isinstance(node.get("default"), int):
        node["default"] = span(node["default"])
    for item in node.values():
        _tidy(item)
