"""What the log shows, and what it never does. Each in a process of its own, since logging is global."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import logging, structlog
from pydantic import SecretStr
from remediator import log
from remediator.settings import Address
log.configure({level!r}, {format!r})
said = structlog.get_logger("remediator.test")
{lines}
"""


def logged(lines: str, level: str = "info", format: str = "json") -> list[Any]:
    script = SCRIPT.format(level=level, format=format, lines=lines)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    if format == "console":
        return done.stdout.splitlines()
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_line_is_one_json_object_with_what_was_bound() -> None:
    (line,) = logged("said.bind(run=7, policy='p').info('run.moved', state='GUARD')")
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "run.moved",
        "level": "info",
        "logger": "remediator.test",
        "run": 7,
        "policy": "p",
        "state": "GUARD",
    }


def test_libraries_come_out_the_same_way() -> None:
    (line,) = logged("logging.getLogger('sqlalchemy').warning('lost %s', 'it')")
    assert (line["event"], line["level"], line["logger"]) == ("lost it", "warning", "sqlalchemy")


def test_levels_hold_for_both() -> None:
    assert logged("said.info('a'); logging.getLogger('x').info('b')", level="warning") == []


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("library", ["httpx2", "botocore.endpoint", "urllib3.connectionpool", "kubernetes"])
def test_client_libraries_do_not_log_each_request(level: str, library: str) -> None:
    lines = (
        f"logging.getLogger({library!r}).info('HTTP Request'); logging.getLogger({library!r}).warning('w')"
    )
    assert [line["event"] for line in logged(lines, level=level)] == ["w"]


def test_a_traceback_is_one_field() -> None:
    (line,) = logged("""
try:
    1 / 0
except ZeroDivisionError:
    said.exception("broken")
""")
    assert "ZeroDivisionError" in line["exception"]


LEAKS = """
said.info('x', a=SecretStr('hunter2'), b=[SecretStr('hunter2')], c={'d': SecretStr('hunter2')})
said.info('x', password='hunter2', auth_token='hunter2', c={'Authorization': 'hunter2'})
said.info('x', path='/webhooks/gcp?auth_token=hunter2')
said.info('x: GET /webhooks/gcp?auth_token=hunter2 refused')
said.info('x', header='Bearer hunter2hunter2')
said.info('x', dsn='postgresql://u:hunter2@h/d', url=Address('http://u:hunter2@h/'))
logging.getLogger('lib').error('x: cannot connect to postgresql://u:hunter2@h/d')
logging.getLogger('lib').error('x: cannot use %s', 'host=h password=hunter2')
"""


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_are_hidden_by_type_by_key_and_inside_texts(format: str) -> None:
    shown = [str(line) for line in logged(LEAKS, format=format)]
    assert len(shown) == 8
    assert [line for line in shown if "hunter2" in line or "x" not in line] == []


def test_the_access_log_is_off() -> None:
    assert logged("logging.getLogger('uvicorn.access').info('GET /webhooks/x?auth_token=t')") == []
