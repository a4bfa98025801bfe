"""What `pip install` gives: everything that the daemon needs, and nothing of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
         "--wheel-dir", str(directory), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (built,) = directory.glob("remediator-*.whl")
    return built


def test_the_wheel_holds_the_library_the_types_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = {path.name for path in (ROOT / "policies").glob("*.yaml")}
    assert {f"remediator/library/{name}" for name in shipped} <= names
    assert "remediator/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"remediator"}


def test_the_installed_wheel_starts_an_installation(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def remediator(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "remediator", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert remediator("--version").stdout.startswith("remediator 0.")
    made = remediator("init", "ops")
    assert made.returncode == 0, made.stderr
    checked = remediator("policies", "check", "--config", "ops/remediator.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
