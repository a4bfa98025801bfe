"""`redis:` in settings: what `doctor` says of it, and what a wrong one gets."""

from __future__ import annotations

from pathlib import Path

from tests.cli.program import Program
from tests.servers.redis import Redis


def installed(home: Path, redis: str) -> Program:
    (home / "policies").mkdir(exist_ok=True)
    (home / "remediator.yaml").write_text(f"policies: {{dir: policies}}\nredis: {redis}\n")
    return Program(home, {})


def test_doctor_reaches_it_or_says_why_not(tmp_path: Path) -> None:
    with Redis() as server:
        program = installed(tmp_path, f'{{url: "redis://:pass-word-1@127.0.0.1:{server.port}/0"}}')
        (found,) = [one for one in program("doctor", "-o", "json").json if one["kind"] == "redis"]
        assert (found["name"], found["ok"]) == (f"127.0.0.1:{server.port}", True)
        server.process.stop()
        said = program("doctor")
        assert said.code == 1
        assert f"127.0.0.1:{server.port}" in said.out
        assert "pass-word-1" not in said.out + said.err


def test_a_wrong_address_is_refused_by_name(tmp_path: Path) -> None:
    said = installed(tmp_path, '{url: "http://:pass-word-1@redis:6379"}')("doctor")
    assert said.code == 2
    assert "redis.url" in said.err
    assert "rediss://" in said.err
    assert "pass-word-1" not in said.err
    typo = installed(tmp_path, '{address: "redis://redis"}')("doctor")
    assert typo.code == 2
    assert "address" in typo.err


def test_a_wrong_limit_is_refused_by_name(tmp_path: Path) -> None:
    for limit, why in (("600", "600 per 1m"), ("0 per 1m", "at least 1"), ("5 per 10ms", "per 1s")):
        program = installed(tmp_path, f'{{}}\nsenders: {{am: {{kind: alertmanager, limit: "{limit}"}}}}')
        said = program("doctor")
        assert said.code == 2, limit
        assert "senders.am.limit" in said.err
        assert why in said.err
