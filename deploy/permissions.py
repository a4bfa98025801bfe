"""Writes the chart's rules: what each action and check may do in a Kubernetes cluster.

`python -m deploy.permissions` renews helm/remediator/files/permissions.yaml from the catalogue; a test
compares the two.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from remediator.contracts import Permission
from remediator.wiring import catalogue

FILE = Path(__file__).parent.parent / "helm" / "remediator" / "files" / "permissions.yaml"
IDENTITY = "get namespaces/kube-system"
"""The one permission outside the namespaces that are acted in; the chart has a Role of its own for it."""

_HEAD = "# Written by `python -m deploy.permissions` from the catalogue; change the code instead.\n"
_GRANT = re.compile(
    r"(?P<verb>[a-z]+) (?P<resource>[a-z]+)(?:\.(?P<group>[a-z0-9.-]+))?(?:/(?P<sub>[a-z]+))?"
)


def rules(permissions: tuple[Permission, ...]) -> list[dict[str, Any]]:
    """RBAC rules, one for each API group and set of verbs, without IDENTITY.

    Raises:
        ValueError: a grant is not of the form `verb resource.group/subresource`.
    """
    verbs: dict[tuple[str, str], list[str]] = {}
    for permission in permissions:
        if permission.system != "kubernetes" or permission.grant == IDENTITY:
            continue
        found = _GRANT.fullmatch(permission.grant)
        if found is None:
            raise ValueError(f"{permission.grant!r} is no grant; write `verb resource.group/subresource`")
        resource = "/".join(part for part in (found["resource"], found["sub"]) if part)
        verbs.setdefault((found["group"] or "", resource), []).append(found["verb"])
    together: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (group, resource), needed in verbs.items():
        together.setdefault((group, tuple(needed)), []).append(resource)
    return [
        {"apiGroups": [group], "resources": resources, "verbs": list(needed)}
        for (group, needed), resources in together.items()
    ]


def text() -> str:
    """The whole file."""
    known = catalogue()
    found = {action.name: action.permissions for action in known.actions()}
    found |= {check.name: check.permissions for check in known.checks()}
    entries = {
        name: {
            "cluster": any(permission.grant == IDENTITY for permission in permissions),
            "rules": rules(tuple(permissions)),
        }
        for name, permissions in sorted(found.items())
    }
    return _HEAD + yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=110)


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
