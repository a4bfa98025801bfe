"""The chart, rendered by Helm itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.servers.process import Missing

CHART = Path(__file__).parents[2] / "helm" / "remediator"
SETS = sorted((CHART / "ci").glob("*-values.yaml"))
Object = dict[str, Any]


def helm() -> Any:
    """Helm's own library.

    Raises:
        Missing: there is no wheel of it for this machine.
    """
    try:
        import helm_python
    except ImportError:
        raise Missing("helm-python-sdk is not installed; it has wheels for x86-64") from None
    return helm_python


def values(name: str) -> Object:
    """One of the chart's own sets of values."""
    found: Object = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return found


def refused(**changes: Any) -> str:
    """What Helm says to the SQLite values with these changes; "" if it takes them."""
    library = helm()
    try:
        render(values("sqlite") | changes)
    except library.HelmError as error:
        return str(error)
    return ""


def texts(given: Object, *, release: str = "r", namespace: str = "ops") -> dict[str, str]:
    """Each template's text."""
    with helm().Chart.load(CHART) as chart:
        chart.validate_schema(given)
        rendered: dict[str, str] = chart.render(given, name=release, namespace=namespace)
    return rendered


def render(given: Object, *, release: str = "r", namespace: str = "ops") -> list[Object]:
    """Every object that would be installed."""
    found = []
    for name, text in texts(given, release=release, namespace=namespace).items():
        if name.endswith(".yaml"):
            found += [one for one in yaml.safe_load_all(text) if one]
    return found


def only(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """The one object of a kind (and name)."""
    (found,) = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def pod(objects: list[Object]) -> Object:
    """The daemon's pod."""
    (found,) = [one for one in objects if one["kind"] in ("StatefulSet", "Deployment")]
    template: Object = found["spec"]["template"]
    return template
