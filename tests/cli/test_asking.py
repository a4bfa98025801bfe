"""Reading and changing verbs beside a running daemon: from its store, and through its API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.daemon import OPERATOR, VIEWER, Daemon
from tests.cli.program import Answer

Ask = Callable[..., Answer]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that has acted on one alert, ignored another, and holds a third."""
    made = Daemon(tmp_path_factory.mktemp("installation"))
    made.start()
    try:
        assert made.fire(site="a", valve="main") == 200
        assert made.fire(alertname="TooQuiet", valve="main") == 200
        acted = made.program("runs", "show", 1, "-w", "--timeout", "20s")
        assert acted.code == 0, acted.out + acted.err
        assert made.fire(alertname="PressureHigh", site="b", valve="nowhere") == 200
        made.until(lambda: made.program("runs", "show", 2, "-o", "json").json["outcome"], "the second run")
        yield made
    finally:
        made.stop()


@pytest.fixture(params=["store", "api"])
def ask(request: pytest.FixtureRequest, daemon: Daemon) -> Ask:
    """Asks the same of the store beside the daemon, and of the daemon's API."""
    remote = ("--server", daemon.url, "--token", VIEWER) if request.param == "api" else ()

    def call(*arguments: str | int) -> Answer:
        return daemon.program(*arguments, *remote)

    return call


def test_alerts_are_listed_by_matchers(ask: Ask) -> None:
    everything = ask("alerts", "list", "-o", "json").json
    assert [one["id"] for one in everything] == [3, 2, 1]
    assert [one["id"] for one in ask("alerts", "list", "TooQuiet", "-o", "json").json] == [2]
    assert [one["id"] for one in ask("alerts", "list", 'site=~"a|b"', "-o", "json").json] == [3, 1]
    nothing = ask("alerts", "list", "NoSuch")
    assert (nothing.code, nothing.out) == (0, "no such alert\n")


def test_a_matcher_that_is_none_is_wrong_usage(ask: Ask) -> None:
    said = ask("alerts", "list", "site=~(")
    assert said.code == 2
    assert "site" in said.err


def test_explain_says_what_was_done(ask: Ask) -> None:
    said = ask("alerts", "explain", 1)
    assert said.code == 0
    assert said.out.splitlines()[0].startswith("Done: policy pressure acted on valve:main and it healed")
    assert "valve.open on valve:main: turns=0 → turns=2 (applied)" in said.out
    for words in ("the alert arrived", "policy pressure opened run 1", "verified: healed", "succeeded"):
        assert words in said.out


def test_explain_says_why_nothing_was_done(ask: Ask) -> None:
    first = ask("alerts", "explain", 2).out.splitlines()[0]
    assert first.startswith("Nothing was done: none of 2 policies matches, and none is near, ")
    assert 'alertname="TooQuiet"' in first
    refused = ask("alerts", "explain", 3).out.splitlines()[0]
    assert refused.startswith("Nothing was done: policy pressure refused: missing_target: ")


def test_explain_asks_about_one_policy(ask: Ask) -> None:
    said = ask("alerts", "explain", 1, "--policy", "patient", "-o", "json")
    assert said.json["headline"].startswith("Nothing was done by policy patient: ")
    assert said.json["runs"] == []
    wrong = ask("alerts", "explain", 1, "--policy", "patent")
    assert wrong.code in (1, 2)
    assert "patent" in wrong.err


def test_what_is_not_there_is_a_no(ask: Ask) -> None:
    for words in (("alerts", "explain", 99), ("runs", "show", 99)):
        said = ask(*words)
        assert said.code == 1
        assert "99" in said.err
        assert said.out == ""


def test_a_number_beyond_all_ids_is_wrong_usage(ask: Ask) -> None:
    said = ask("alerts", "explain", 10**23)
    assert said.code == 2
    assert "Traceback" not in said.err


def test_status_says_what_holds_it_back_and_who_is_waited_for(daemon: Daemon, ask: Ask) -> None:
    before = ask("status", "-o", "json")
    assert before.code == 1  # the run that was refused has called somebody
    assert [one["target"] for one in before.json["incidents"]] == ["valve:nowhere"]
    assert (before.json["brakes"], before.json["questions"]) == ([], [])
    assert "Brakes: nothing holds it back" in ask("status").out
    daemon.program("pause", "--comment", "look at it", "--for", "never")
    try:
        (brake,) = ask("status", "-o", "json").json["brakes"]
        assert (brake["kind"], brake["scope"], brake["reason"]) == ("pause", "", "look at it")
        line = next(line for line in ask("status").out.splitlines() if line.startswith("pause"))
        assert "the whole daemon" in line
        assert "look at it" in line
    finally:
        daemon.program("resume", "--comment", "looked at")


def test_runs_are_listed_and_shown(ask: Ask) -> None:
    listed = ask("runs", "list", "-o", "json").json
    assert [(run["id"], run["outcome"]) for run in listed] == [(2, "refused"), (1, "succeeded")]
    assert [run["id"] for run in ask("runs", "list", "--alert", 1, "-o", "json").json] == [1]
    shown = ask("runs", "show", 1)
    assert "valve.open on valve:main: turns=0 → turns=2 (applied)" in shown.out
    assert "run.succeeded" in shown.out


def test_a_run_that_went_wrong_is_a_no_when_followed(ask: Ask) -> None:
    said = ask("runs", "show", 2, "--watch")
    assert said.code == 1
    assert said.out.splitlines()[-1].startswith("run 2: refused: missing_target")


def test_the_audit_log_is_asked_and_verified(daemon: Daemon, ask: Ask) -> None:
    found = ask("audit", "query", "--run", 1, "--kind", "action.applied", "-o", "json").json
    assert [one["run"] for one in found] == [1]
    recent = ask("audit", "query", "--since", "1h", "--oldest-first", "--limit", 1, "-o", "json")
    assert len(recent.json) == 1
    later = ask("audit", "query", "--since", "2100-01-01T00:00:00Z")
    assert later.out == "no such event\n"
    daemon.program("pause", "--policy", "patient", "--comment", "load test", "--for", "1h")
    daemon.program("resume", "--policy", "patient", "--comment", "load test over")
    paused = ask("audit", "query", "--kind", "control.paused", "--limit", 1).out
    assert "scope=policy:patient reason=load test until=20" in paused
    typo = ask("audit", "query", "--kind", "run.refussed")
    assert (typo.code, typo.out) == (0, "no such event\n")
    assert "did you mean run.refused?" in typo.err
    assert ask("audit", "query", "--kind", "breaker.tripped").err == ""
    wrong = ask("audit", "query", "--since", "yesterday")
    assert wrong.code == 2
    assert "yesterday" in wrong.err


def test_nothing_is_cut_off_when_piped(daemon: Daemon) -> None:
    long = "x" * 300
    assert daemon.fire(alertname="Long", detail=long) == 200
    listed = daemon.program("alerts", "list", "Long")
    assert long in listed.out
    assert "\x1b" not in listed.out


def test_a_label_cannot_drive_the_terminal(daemon: Daemon) -> None:
    assert daemon.fire(alertname="Evil", detail="a\x1b]0;owned\x07\x1b[2Jb") == 200
    listed = daemon.program("alerts", "list", "Evil")
    assert "\x1b" not in listed.out
    assert "owned" in listed.out


def test_verify_says_whether_the_log_is_whole(daemon: Daemon) -> None:
    daemon.until(lambda: daemon.program("audit", "verify", "-o", "json").json["unsealed"] == 0, "a seal")
    said = daemon.program("audit", "verify", "-o", "json")
    assert (said.code, said.json["whole"]) == (0, True)
    assert daemon.program("audit", "verify", "--head", said.json["head"]).code == 0
    cut = daemon.program("audit", "verify", "--head", "0" * 64)
    assert cut.code == 1
    assert "NOT WHOLE" in cut.out


def test_pause_and_resume(daemon: Daemon) -> None:
    assert daemon.program("pause").code == 2
    assert "--comment" in daemon.program("pause").err
    paused = daemon.program("pause", "--policy", "patient", "--comment", "patching", "-o", "json").json
    assert (paused["scope"], paused["reason"], paused["actor"]) == ("policy:patient", "patching", "alice")
    assert paused["until"] is not None
    unknown = daemon.program("pause", "--policy", "patent", "--comment", "patching")
    assert unknown.code == 1
    assert "patent" in unknown.err
    resumed = daemon.program("resume", "--policy", "patient", "--comment", "done")
    assert (resumed.code, resumed.out) == (0, "policy patient is resumed\n")
    again = daemon.program("resume", "--policy", "patient", "--comment", "done")
    assert again.code == 1


def test_a_pause_takes_nothing_from_a_longer_one(daemon: Daemon) -> None:
    scope = ("--policy", "patient")
    try:
        longer = daemon.program("pause", *scope, "--comment", "patching", "--for", "6h", "-o", "json").json
        said = daemon.program("pause", *scope, "--comment", "lunch", "--for", "30m")
        assert said.code == 0
        assert f"paused until {longer['until']}" in said.out
        assert "paused for longer already, by alice (patching); that stays" in said.out
        replaced = daemon.program("pause", *scope, "--comment", "holidays", "--for", "9d")
        assert "This replaces the pause by alice (patching)" in replaced.out
    finally:
        daemon.program("resume", *scope, "--comment", "done")
    events = daemon.program("audit", "query", "--kind", "control.paused", "-o", "json").json
    data = {event["data"]["reason"]: event["data"] for event in events}
    assert data["lunch"]["stays"]["reason"] == "patching"
    assert data["holidays"]["replaced"]["reason"] == "patching"


def test_a_paused_target_is_listed(daemon: Daemon) -> None:
    said = daemon.program("pause", "--target", "valve:other", "--comment", "in repair")
    try:
        assert said.code == 0
        assert "WARNING: no run has met valve:other so far" in said.err
        wrong = daemon.program("pause", "--target", "valv:other", "--comment", "in repair")
        assert (wrong.code, wrong.out) == (1, "")
        assert "'valv:other' is no target" in wrong.err
        assert "valve" in wrong.err
        (row,) = [one for one in daemon.program("targets", "list", "-o", "json").json if one["pause"]]
        assert (row["key"], row["pause"]["reason"]) == ("valve:other", "in repair")
    finally:
        daemon.program("resume", "--target", "valve:other", "--comment", "repaired")
    assert daemon.program("effects", "list").out == "nothing is lent\n"


def test_a_run_is_started_and_cancelled_by_hand(daemon: Daemon) -> None:
    daemon.program("pause", "--comment", "hands off")
    try:
        started = daemon.program(
            "runs",
            "start",
            "pressure",
            "--set",
            "valve=main",
            "--set",
            "site=a",
            "--reason",
            "drill",
            "-o",
            "json",
        )
        assert started.code == 0, started.err
        run = started.json["id"]
        assert started.json["origin"] == "hand"
        waited = daemon.program("runs", "show", run, "-w", "--timeout", "1s")
        assert waited.code == 3
        assert "has not ended yet" in waited.err
        cancelled = daemon.program("runs", "cancel", run, "--reason", "drill over")
        assert cancelled.code == 0, cancelled.err
        again = daemon.program("runs", "cancel", run, "--reason", "drill over")
        assert again.code == 1
    finally:
        daemon.program("resume", "--comment", "hands on")
    explained = daemon.program("runs", "show", run)
    assert "run.started: drill (by alice)" in explained.out
    alert = daemon.program("runs", "show", run, "-o", "json").json["alert"]
    said = daemon.program("alerts", "explain", alert, "-o", "json").json
    assert [one["policy"] for one in said["near"]] == ["patient"]  # not the one that was named
    listed = daemon.program("alerts", "list").out.splitlines()
    assert "by hand" in next(line for line in listed if line.startswith(f"{alert} "))


def test_started_wrongly(daemon: Daemon) -> None:
    said = daemon.program("runs", "start", "presure", "--reason", "drill")
    assert said.code == 1
    assert "presure" in said.err
    said = daemon.program("runs", "start", "pressure", "--reason", "drill", "--set", "valve")
    assert said.code == 2
    assert "label=value" in said.err
    assert daemon.program("runs", "start", "pressure").code == 2


def test_a_run_by_hand_must_be_one_that_the_policy_would_match(daemon: Daemon) -> None:
    words = ("runs", "start", "pressure", "--reason", "drill", "-o", "json")
    wrong = daemon.program(*words, "--set", "valve=main")
    assert wrong.code == 1
    assert 'site=~".+" does not hold: site is absent' in wrong.err
    assert "--set" in wrong.err
    assert "--anyway" in wrong.err
    other = daemon.program(*words, "--set", "alertname=Other", "--set", "site=a")
    assert other.code == 1
    assert 'alertname="PressureHigh" does not hold: alertname="Other"' in other.err
    daemon.program("pause", "--comment", "hands off", "--for", "never")
    try:
        all_the_same = daemon.program(*words, "--set", "valve=main", "--anyway")
        assert all_the_same.code == 0, all_the_same.err
        run = all_the_same.json["id"]
        shown = daemon.program("runs", "show", run, "-o", "json").json
        assert shown["alerts"][0]["labels"]["alertname"] == "PressureHigh"  # no other would be matched
        (started,) = [one for one in shown["events"] if one["kind"] == "run.started"]
        assert started["data"]["unmatched"] == ['site=~".+"']
        assert daemon.program("runs", "cancel", run, "--reason", "drill over").code == 0
    finally:
        daemon.program("resume", "--comment", "hands on")


def test_a_name_that_nothing_has_is_a_no_and_not_an_empty_list(daemon: Daemon, ask: Ask) -> None:
    for words in (("runs", "list"), ("audit", "query")):
        said = ask(*words, "--policy", "presure")
        assert said.code == 1
        assert "no policy is, or was, named 'presure'; did you mean 'pressure'?" in said.err
        assert ask(*words, "--policy", "limits").code == 1  # a file of the set, and no policy
        assert ask(*words, "--alert", 999).code == 1
    said = ask("audit", "query", "--target", "valve:mian")
    assert said.code == 1
    assert "did you mean 'valve:main'?" in said.err
    assert ask("audit", "query", "--run", 999).code == 1
    # It is in the set, and has had nothing to do.
    for words in (("runs", "list"), ("audit", "query")):
        quiet = ask(*words, "--policy", "patient", "-o", "json")
        assert (quiet.code, quiet.json) == (0, [])


def test_roles_and_tokens(daemon: Daemon) -> None:
    as_viewer = ("--server", daemon.url, "--token", VIEWER)
    said = daemon.program("pause", "--comment", "x", *as_viewer)
    assert said.code == 1  # an answer, and it is no
    assert "viewer" in said.err
    nobody = daemon.program("runs", "list", "--server", daemon.url)
    assert nobody.code == 3
    assert "REMEDIATOR_TOKEN" in nobody.err
    by_environment = daemon.program("runs", "list", "--server", daemon.url, REMEDIATOR_TOKEN=VIEWER)
    assert by_environment.code == 0
    for said in (nobody, by_environment):
        assert VIEWER not in said.err + said.out
        assert OPERATOR not in said.err + said.out


def test_the_clients_own_file(daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "remediator"
    folder.mkdir(parents=True)
    (folder / "cli.yml").write_text(f"server: {daemon.url}\ntoken: {VIEWER}\noutput: json\n")
    listed = daemon.program("runs", "list", HOME=str(tmp_path))
    assert [run["id"] for run in listed.json][-1] == 1
    (folder / "cli.yml").write_text("sever: http://localhost\n")
    wrong = daemon.program("runs", "list", HOME=str(tmp_path))
    assert wrong.code == 2
    assert "cli.yml:1: unknown key 'sever'" in wrong.err


def test_out_of_reach_is_could_not_tell(daemon: Daemon, tmp_path: Path) -> None:
    gone = daemon.program("runs", "list", "--server", "http://127.0.0.1:1")
    assert gone.code == 3
    assert "cannot be reached" in gone.err
    gone = daemon.program("runs", "list", "--server", "http://alice:hunter2@127.0.0.1:1")
    assert "cannot be reached" in gone.err
    assert "hunter2" not in gone.err
    (tmp_path / "remediator.yaml").write_text(f'store: {{url: "sqlite:///{tmp_path}/none.db"}}\n')
    empty = daemon.program("runs", "list", "--config", str(tmp_path / "remediator.yaml"))
    assert empty.code == 3
    assert "none.db" in empty.err
    assert "Traceback" not in empty.err


def test_options_before_the_verb_count_too(daemon: Daemon) -> None:
    said = daemon.program("--output", "json", "runs", "list", "--limit", 1)
    assert len(said.json) == 1
