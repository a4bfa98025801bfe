"""docs/deploying.md and SECURITY.md say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from remediator.clock import SystemClock
from remediator.errors import ConfigurationError
from remediator.settings.load import assemble
from remediator.store import open_store
from tests.deploy.chart import pod, render

ROOT = Path(__file__).parents[2]
DEPLOYING = (ROOT / "docs" / "deploying.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()


def test_the_values_of_the_page_are_an_installation() -> None:
    (text,) = re.findall(r"^```yaml values\.yaml\n(.*?)^```", DEPLOYING, re.DOTALL | re.MULTILINE)
    objects = render(yaml.safe_load(text))
    assert {"StatefulSet", "ServiceMonitor", "PrometheusRule"} <= {one["kind"] for one in objects}
    assert [one["name"] for one in pod(objects)["spec"]["containers"]] == ["remediator", "git-sync"]


def test_the_page_says_whether_several_replicas_run() -> None:
    try:
        open_store("postgresql://remediator@db/remediator", SystemClock(), receivers={})
        refused = False
    except ConfigurationError:
        refused = True
    said = "It refuses `store.url: postgresql://…` at start" in DEPLOYING
    assert said == refused, (
        "docs/deploying.md and the store disagree about PostgreSQL: once it is taken, the page's second "
        "paragraph, `(not in this version, see above)` and the last section of SECURITY.md have to change"
    )


def test_the_settings_of_the_page_are_enough_to_listen_everywhere(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml remediator\.yaml\n(.*?)^```", DEPLOYING, re.DOTALL | re.MULTILINE)
    names = set(re.findall(r"\$\{(\w+)\}", text))
    unit = (ROOT / "deploy" / "systemd" / "secrets.conf").read_text()
    assert names == set(re.findall(r"(?m)^LoadCredential=(\w+):", unit)), "the drop-in has other secrets"
    assert names == set(re.findall(r"openssl rand -hex 32 > (\w+)", DEPLOYING))
    secrets = dict.fromkeys(names, "a-token-of-more-than-16-bytes")
    found = assemble(
        f"server: {{host: 0.0.0.0}}\n{text}", "remediator.yaml", secrets, Path("/etc/remediator")
    )
    assert found.store.path == Path("/var/lib/remediator/remediator.db")
    assert found.policies.dir == Path("/etc/remediator/policies")


def test_every_claim_about_security_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", SECURITY)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).is_file()] == []
    sections = re.split(r"^## ", SECURITY, flags=re.MULTILINE)
    for title in ("A forged alert", "A poisoned label", "A hostile pull request", "A stolen approver",
                  "A compromised daemon", "Secrets", "Tampering with the store"):  # fmt: skip
        (section,) = [text for text in sections if text.startswith(title)]
        assert "`tests/" in section, f"{title}: nothing shows it"


def test_files_that_the_page_installs_exist() -> None:
    for path in re.findall(r"\b((?:deploy|helm|requirements)/[\w./-]+\w)", DEPLOYING):
        assert (ROOT / path).exists(), path
