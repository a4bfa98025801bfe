"""Runs the command line as people do: as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What a call printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Program:
    """The program in a directory of its own, with a home of its own.

    Args:
        directory: where it is called; it is also HOME.
        environment: more variables.
    """

    directory: Path
    environment: Mapping[str, str]

    def argv(self, *arguments: str | int) -> list[str]:
        return [sys.executable, "-m", "remediator", *map(str, arguments)]

    def env(self, **more: str) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "TMPDIR") if key in os.environ}
        return {**kept, "HOME": str(self.directory), "PYTHONPATH": str(ROOT), **self.environment, **more}

    def __call__(self, *arguments: str | int, timeout: float = 60, **more: str) -> Answer:
        done = subprocess.run(
            self.argv(*arguments),
            cwd=self.directory,
            env=self.env(**more),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        return Answer(done.returncode, done.stdout, done.stderr)
