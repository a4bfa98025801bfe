"""What watches the daemon speaks of metrics that it has, and fires when it should."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator import metrics
from remediator.model import Outcome, Reason
from tests.deploy.chart import CHART, only, render, values
from tests.servers.process import find

ALERTS = CHART / "files" / "alerts.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
NOT_OURS = {"up", "ALERTS"}


def promtool(*words: str, directory: Path) -> str:
    program = find("promtool", hint="apt-get install prometheus")
    done = subprocess.run([program, *words], cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def exposed() -> dict[str, set[str]]:
    """The names of the series that /metrics can have, and their labels."""
    found: dict[str, set[str]] = {}
    for collector in metrics.REGISTRY._collector_to_names:
        collected: Any = collector
        labels = set(collected._labelnames)
        (family,) = collected.describe()
        suffixes = {"counter": ["_total"], "info": ["_info"], "histogram": ["_bucket", "_count", "_sum"]}
        for suffix in suffixes.get(family.type, [""]):
            found[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def selectors(expression: str) -> list[tuple[str, dict[str, str]]]:
    """Metric names of an expression with their matchers."""
    found = []
    for name, _, inside in re.findall(r"\b(up|ALERTS|remediator_\w+)\b(\{([^}]*)\})?", expression):
        found.append((name, dict(re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', inside))))
    return found


def expressions() -> list[tuple[str, str]]:
    found = [(rule["alert"], rule["expr"]) for rule in rules()]
    return found + [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


@pytest.mark.parametrize(("where", "expression"), expressions(), ids=lambda value: str(value)[:40])
def test_every_metric_exists_with_these_labels_and_values(where: str, expression: str) -> None:
    known = exposed()
    values = {"reason": set(Reason), "outcome": {*Outcome, "applied", "not_applied", "ambiguous", "answered"}}
    values["result"] = {*metrics.RESULTS, "sent", "failed"}
    for name, matchers in selectors(expression):
        assert name in known or name in NOT_OURS, f"{where}: {name} is no metric of the daemon"
        assert "job" in matchers, f"{where}: {name} would count other jobs too"
        own = set(matchers) - {"job", "namespace", "instance"}
        assert own <= known.get(name, set()), f"{where}: {name} has no label {own - known.get(name, set())}"
        for label in own & set(values):
            assert set(matchers[label].split("|")) <= values[label], f"{where}: {label}={matchers[label]}"


def test_the_names_in_metrics_are_those_that_are_served() -> None:
    """`exposed` reads the registry; what is served must agree with it."""
    metrics.declare(senders=["s"], policies=["p"], notifiers=["n"])
    served = {
        re.split(r"[{ ]", line)[0]
        for line in metrics.render().decode().splitlines()
        if line and not line.startswith("#") and not re.split(r"[{ ]", line)[0].endswith("_created")
    }
    assert served <= set(exposed())
    assert {"remediator_alerts_total", "remediator_notifications_total", "remediator_open_runs"} <= served


def test_promtool_takes_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(ALERTS), directory=CHART)


def test_the_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "alerts_test.yaml").read_text()
    (tmp_path / "alerts_test.yaml").write_text(text.replace("RULES", str(ALERTS)))
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yaml", directory=tmp_path)


def test_every_alert_is_tried() -> None:
    tried = set(re.findall(r"Remediator\w+", (Path(__file__).parent / "alerts_test.yaml").read_text()))
    assert {rule["alert"] for rule in rules()} <= tried


def test_every_alert_says_what_to_do() -> None:
    headings = set(re.findall(r"^#+ (\w+)$", PAGE.read_text(), re.MULTILINE))
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "none"}
        assert rule["alert"] in headings, f"{rule['alert']}: no section of docs/operations.md"
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/operations.md#{rule['alert'].lower()}")
    told = {heading for heading in headings if heading.startswith("Remediator")}
    assert told == {rule["alert"] for rule in rules()}
    sections = re.split(r"^### (?=Remediator)", PAGE.read_text(), flags=re.MULTILINE)[1:]
    for section in sections:
        parts = re.findall(r"^- \*\*(\w[\w ]+)\*\*: \S", section, re.MULTILINE)
        assert parts == ["Means", "Look at", "Do", "Do not"], section.splitlines()[0]


def test_the_chart_installs_them_for_its_own_job(tmp_path: Path) -> None:
    found = only(render(values("postgresql")), "PrometheusRule")
    assert found["metadata"]["labels"]["release"] == "prometheus"
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(found["spec"]))
    assert f"{len(rules())} rules found" in promtool("check", "rules", "rules.yml", directory=tmp_path)
    for rule in found["spec"]["groups"][0]["rules"]:
        for _, matchers in selectors(rule["expr"]):
            assert matchers["job"] == "r-remediator"
            assert matchers["namespace"] == "ops"


def test_alerts_can_be_left_out_labelled_and_added() -> None:
    found = only(render(values("everything")), "PrometheusRule")
    own, added = found["spec"]["groups"]
    names = {rule["alert"] for rule in own["rules"]}
    assert names == {rule["alert"] for rule in rules()} - {"RemediatorDeadman"}
    assert all(rule["labels"]["team"] == "platform" for rule in own["rules"])
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
    assert all(rule["labels"]["severity"] == severities[rule["alert"]] for rule in own["rules"])
    assert [rule["alert"] for rule in added["rules"]] == ["Mine"]


def test_prometheus_finds_the_service_that_the_monitor_selects() -> None:
    objects = render(values("postgresql"))
    monitor = only(objects, "ServiceMonitor")["spec"]
    service = only(objects, "Service", "r-remediator")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
    wanted = monitor["selector"]["matchLabels"].items()
    services = [one for one in render(values("sqlite")) if one["kind"] == "Service"]
    selected = [one for one in services if wanted <= one["metadata"]["labels"].items()]
    assert len(selected) == 1, "the headless service would be scraped a second time"


def test_grafana_gets_the_dashboard_as_it_is() -> None:
    found = only(render(values("postgresql")), "ConfigMap", "r-remediator-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"]["remediator.json"]) == json.loads(DASHBOARD.read_text())


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    """Put into recording rules, so that promtool reads them."""
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    plain = [
        query.replace("$__rate_interval", "5m").replace("$job", "j").replace("$namespace", "n")
        for query in queries
    ]
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(plain)]
    (tmp_path / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]})
    )
    assert f"{len(plain)} rules found" in promtool("check", "rules", "rules.yml", directory=tmp_path)


def test_panels_do_not_lie_on_each_other() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
