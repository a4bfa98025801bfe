"""docs/deploying.md and SECURITY.md say what is so."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from remediator.clock import SystemClock
from remediator.errors import ConfigurationError
from remediator.model import AuditEvent
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


async def test_the_backup_command_of_the_page_makes_a_whole_copy_of_a_running_store(tmp_path: Path) -> None:
    (command,) = re.findall(r"^python3 -c .*?(?=^```)", DEPLOYING, re.DOTALL | re.MULTILINE)
    live, copy = tmp_path / "remediator.db", tmp_path / "copy.db"
    store = open_store(f"sqlite:///{live}", SystemClock(), receivers={})
    await store.open()
    try:
        for number in range(50):
            await store.record((AuditEvent(kind="control.paused", observed=str(number)),))
        head = await store.seal()
        words = shlex.split(command.replace("\\\n", " "))
        assert words[-2:] == ["/var/lib/remediator/remediator.db", "/var/backups/remediator.db"]
        argv = [sys.executable, *words[1:-2], str(live), str(copy)]
        await asyncio.to_thread(subprocess.run, argv, check=True)
        await store.record((AuditEvent(kind="control.resumed"),))
    finally:
        await store.close()
    backup = open_store(f"sqlite:///{copy}", SystemClock(), receivers={}, read_only=True)
    await backup.open()
    try:
        report = await backup.verify(head)
        assert report.whole, report
        assert len(await backup.audit(kind="control.paused", limit=100)) == 50
        assert await backup.audit(kind="control.resumed") == []
    finally:
        await backup.close()


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
