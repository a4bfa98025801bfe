"""Whole sets of policies: every fault in its place, all of them at once; matching and explaining."""

# ruff: noqa: E501 (a fault is read best on one line)

from __future__ import annotations

import random
from pathlib import Path

import pytest

from remediator.errors import ConfigurationError
from remediator.model import DAY, HOUR, MINUTE, SECOND, Blast, Budget, Millis, Mode, Severity
from remediator.policy.comparison import Comparison
from remediator.policy.escalation import Condition
from remediator.policy.faults import PolicyErrors
from remediator.policy.fields import BlastRadius
from remediator.policy.schema import Policy
from remediator.policy.set import PolicySet, compile_set, content_hash
from tests.policy.words import VOCABULARY, alert, good

LIBRARY = Path(__file__).parents[2] / "policies"


def compiled(files: dict[str, str]) -> PolicySet:
    return compile_set(files, VOCABULARY)


def faults(files: dict[str, str]) -> list[str]:
    with pytest.raises(PolicyErrors) as caught:
        compiled(files)
    return [str(error) for error in caught.value.errors]


def test_a_good_policy_is_what_it_says() -> None:
    found = compiled(good()).policies["a"]
    assert (found.mode, found.severity, found.from_) == (Mode.ENFORCE, Severity.P3, ("alertmanager-prod",))
    assert (found.for_, found.give_up) == (5 * MINUTE, 30 * MINUTE)
    assert found.when[0].is_ == Comparison(">", 50)
    assert found.when[0].with_ == {"connection": "aws-prod", "queue": "${labels.queue}"}
    (remedy,) = found.remedies
    assert [use.action for use in remedy.actions] == ["pool.resize"]
    assert remedy.expires == 2 * HOUR
    assert found.verify is not None
    assert (found.verify.after, found.verify.within, found.verify.every) == (
        2 * MINUTE,
        20 * MINUTE,
        15 * SECOND,
    )


def test_limits_left_out_are_the_built_in_ones() -> None:
    found = compiled(good())
    limits = found.policies["a"].limits
    assert limits.cooldown == 10 * MINUTE
    assert [str(budget) for budget in limits.per_target] == ["2 per 1h"]
    assert [str(budget) for budget in limits.budget] == ["4 per 1h", "10 per 1d"]
    assert (limits.concurrent, limits.open_runs, str(limits.blast_radius)) == (1, 20, "50%")
    assert [str(budget) for budget in found.limits.budget] == ["10 per 10m", "60 per 1d"]
    assert found.limits.concurrent == 3


def test_limits_that_are_given() -> None:
    text = "limits: {cooldown: 1h, per_target: [1 per 1d], concurrent: 2, open_runs: 5, blast_radius: 3}\n"
    limits = compiled(good("a", ("on_failure:", text + "on_failure:"))).policies["a"].limits
    assert (limits.cooldown, limits.per_target) == (HOUR, (Budget(count=1, window=Millis(24 * HOUR)),))
    assert (limits.concurrent, limits.open_runs) == (2, 5)
    assert limits.blast_radius == BlastRadius(amount=3)


@pytest.mark.parametrize(
    ("radius", "amount", "whole", "allowed"),
    [
        (BlastRadius(percent=30), 3, 10, True),
        (BlastRadius(percent=30), 3.1, 10, False),
        (BlastRadius(percent=100), 1, None, False),
        (BlastRadius(amount=5), 5, None, True),
        (BlastRadius(amount=5), 6, 1000, False),
    ],
)
def test_blast_radius(radius: BlastRadius, amount: float, whole: float | None, allowed: bool) -> None:
    assert radius.allows(Blast(amount=amount, whole=whole, unit="workers")) is allowed


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("remedies:", "remedys:", "12:1: unknown key 'remedys'; did you mean 'remedies'?"),
        ("expires: 2h", "expire: 2h", "15:5: unknown key 'expire'; did you mean 'expires'?"),
        ("from:", "from_:", "3:1: unknown key 'from_'; did you mean 'from'?"),
        ("for: 5m", "for: 5", "7:6: for: 5 is not a duration; write for example 30s, 5m, 2h, 7d or 1m30s"),
        ("for: 5m", "for: 5 minutes", "7:6: for: '5 minutes' is not a duration"),
        ("expires: 2h", "expires: 0s", "15:14: expires: must be longer than 0s"),
        ("mode: enforce", "mode: enforced", "2:7: mode is enforced; allowed: observe, approve or enforce; did you mean 'enforce'?"),
        ("mode: enforce", "mode: enforce\nseverity: P0", "3:11: severity is P0; allowed: P1, P2, P3 or P4"),
        ("name: a", "name: 5", "1:7: name must be text; put 5 in quotes"),
        ("name: a", "name: A_b!", "1:7: name is 'A_b!'; allowed: "),
        ("name: a", "description: x", "1:1: 'name' is missing"),
        ("name: a", "name: b", "1:7: the policy is named 'b' and its file 'a'; make them the same"),
        ("[alertmanager-prod]", "alertmanager-prod", "3:7: from must be a list, not text; put [ ] around it"),
        ("[alertmanager-prod]", "[alertmanager-prd]", "3:8: no sender is named 'alertmanager-prd' in the settings; did you mean 'alertmanager-prod'?"),
        ("from: [alertmanager-prod]\n", "", "`from:` is missing: with mode enforce"),
        ('alertname="QueueDepthHigh"', "alertname", "5:5: 'alertname' is not a matcher"),
        ('queue=~"prod-.+"', 'queue=~"prod-["', '6:5: queue=~"prod-[": not a regular expression (RE2)'),
        ("pool.resize", "pool.resise", "13:13: no action is named 'pool.resise'; did you mean 'pool.resize'?"),
        ("check: queue.depth\n    with: {connection: aws-prod, queue: \"${labels.queue}\"}\n    is: \"> 50\"", "check: queue.dept\n    is: \"> 50\"", "9:12: no check is named 'queue.dept'; did you mean 'queue.depth'?"),
        ("group: prod-gpu-workers", "grup: prod-gpu-workers", "14:34: pool.resize: unknown key 'grup'; did you mean 'group'?"),
        ("group: prod-gpu-workers", "group: prod gpu", "14:41: 'prod gpu' does not fit group; allowed: [A-Za-z0-9._-]{1,80}"),
        ("add: 2", "add: 200", "14:64: pool.resize: add: input should be less than or equal to 20 (it is 200)"),
        ("add: 2", 'add: "${labels.n}"', "14:64: add of pool.resize may not be taken from an alert; write a fixed value (labels may stand in: group, zone, tags)"),
        ("connection: aws-prod, group", 'connection: "${labels.c}", group', "14:24: connection of pool.resize may not be taken from an alert"),
        ("connection: aws-prod, group", "connection: aws-prd, group", "14:24: no connection is named 'aws-prd' in the settings; did you mean 'aws-prod'?"),
        ("connection: aws-prod, group", "connection: orders, group", "14:24: the connection 'orders' is of kind postgres and pool.resize needs aws; known here: aws-prod, aws-test"),
        ('"${labels.queue}"}\n    is: "> 50"', '"${lables.queue}"}\n    is: "> 50"', "10:41: ${lables.queue} is not known; did you mean 'labels.queue'?"),
        ('is: "> 50"', 'is: "50"', "11:9: is: '50' is not a comparison"),
        ('is: "> 50"', "is: 50", "11:9: is: 50 must be text; write for example is: \"> 50\""),
        ('is: "> 50"', 'is: "> 50ms"', "11:9: queue.depth: 'ms' measures time and the check gives a plain number"),
        ('    is: "> 50"\n', "", "`when:` queue.depth has no `is:`"),
        ("on_failure: revert", "on_failure: undo", "23:13: on_failure is undo; allowed: revert or keep"),
        ("on_failure: revert", "escalate: nobody", "23:11: no chain is named 'nobody' in escalation.yaml; there is none"),
        ("on_failure: revert", "only_during: [office]", "23:15: no window is named 'office' in windows.yaml; there is none"),
        ("on_failure: revert", "limits: {budget: []}", "23:18: budget has 0 entries; at least 1 must stand there"),
        ("on_failure: revert", "limits: {budget: [4 in 1h]}", "23:19: '4 in 1h' is not a budget; write for example 4 per 1h"),
        ("on_failure: revert", "limits: {budget: [0 per 1h]}", "allows nothing"),
        ("on_failure: revert", "limits: {budget: [1 per 32d]}", "23:19: 32d is longer than actions are remembered; at most 31d is allowed"),
        ("on_failure: revert", "limits: {cooldown: 45d}", "23:20: cooldown: 45d is longer than actions are remembered; at most 31d is allowed"),
        ("on_failure: revert", "limits: {concurrent: 0}", "23:22: concurrent: input should be greater than or equal to 1"),
        ("on_failure: revert", "limits: {concurrent: true}", "23:22: concurrent:"),
        ("on_failure: revert", "limits: {blast_radius: 150%}", "23:24: blast_radius: '150%' is not a blast radius"),
        ("on_failure: revert", "limits: {colddown: 5m}", "23:10: unknown key 'colddown'; did you mean 'cooldown'?"),
        ("  within: 20m", "  within: 20m\n  stable_for: 30m", "`stable_for:` is longer than `within:`"),
        ("  within: 20m\n", "", "17:3: 'within' is missing"),
        ("pool.resize\n", "pool.resize\n    steps: [{action: pool.resize}]\n", "exactly one of them"),
        ("mode: enforce", "mode: approve\napproval: {role: manger}", "3:18: role is manger; allowed: viewer, auditor, operator, manager, lead or admin; did you mean 'manager'?"),
        ("mode: enforce", "mode: enforce\napproval: {role: manager}", "`approval:` has no meaning with mode enforce"),
    ],
)  # fmt: skip
def test_a_fault_names_its_place_and_what_is_right(old: str, new: str, fault: str) -> None:
    found = faults(good("a", (old, new)))
    assert any(fault in text and text.startswith("a.yaml:") for text in found), found


def test_every_fault_of_every_file_is_reported_in_order() -> None:
    files = (
        good("b", ("add: 2", "add: 0"), ("max: 10", "max: 1000"), ("pool.resize", "pool.resize"), ("queue.depth\n      with", "queue.deph\n      with"))
        | {"c.yaml": "a: [\n", "limits.yaml": "global: {concurent: 3}\n", "sub/limits.yaml": "{}\n"}
        | good("a", ("mode: enforce", "mode: enforced"), ("for: 5m", "fo: 5m"))
    )  # fmt: skip
    found = faults(files)
    assert [text.split(" ")[0] for text in found] == [
        "a.yaml:2:7:",
        "a.yaml:7:1:",
        "b.yaml:14:64:",
        "b.yaml:14:72:",
        "b.yaml:20:14:",
        "c.yaml:2:1:",
        "limits.yaml:1:10:",
        "sub/limits.yaml:",
    ]


def test_the_errors_are_a_configuration_error_with_all_texts() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)a\.yaml:2:7: .*\na\.yaml:7:1: ") as caught:
        compiled(good("a", ("mode: enforce", "mode: x"), ("for: 5m", "fo: 5m")))
    assert isinstance(caught.value, PolicyErrors)
    assert [error.line for error in caught.value.errors] == [2, 7]


@pytest.mark.parametrize("matchers", ['foo=""', 'foo!="x"', 'foo=~".*"', 'foo=~".*"\n  - bar!~".+"'])
def test_matchers_that_hold_for_everything_are_refused(matchers: str) -> None:
    text = "match:\n  - " + matchers + "\n"
    found = faults(good("a", ('match:\n  - alertname="QueueDepthHigh"\n  - queue=~"prod-.+"\n', text)))
    assert found == [
        'a.yaml:4:1: these matchers hold for every alert; add one that does not, for example alertname="…"'
    ]


def test_an_irreversible_action_neither_expires_nor_reverts() -> None:
    found = faults(good("a", ("pool.resize", "pool.drop")))
    assert found == [
        "a.yaml:15:5: pool.drop cannot be undone (what was in it is gone), so it cannot expire; remove `expires:`",
        "a.yaml:23:13: pool.drop cannot be undone (what was in it is gone), so the policy cannot revert; "
        "write on_failure: keep",
    ]
    kept = good("a", ("pool.resize", "pool.drop"), ("    expires: 2h\n", ""), ("revert", "keep"))
    assert compiled(kept).policies["a"].remedies[0].action == "pool.drop"


def test_several_remedies_need_a_verify() -> None:
    rung = "  - action: pool.resize\n    with: {connection: aws-prod, group: g, add: 1, max: 2}\n"
    without = good("a")["a.yaml"].split("verify:")[0] + rung
    assert "`verify:` is missing" in faults({"a.yaml": without})[0]


def test_steps_are_done_in_order() -> None:
    use = "action: pool.resize, with: {connection: aws-prod, group: %s, add: 1, max: 2}"
    steps = f"  - steps:\n      - {{{use % 'g1'}}}\n      - {{{use % 'g2'}}}\n"
    text = good("a")["a.yaml"].split("remedies:")[0] + "remedies:\n" + steps
    (remedy,) = compiled({"a.yaml": text}).policies["a"].remedies
    assert [use.with_["group"] for use in remedy.actions] == ["g1", "g2"]


def test_in_mode_observe_any_sender_may_trigger_a_policy_without_from() -> None:
    found = compiled(good("a", ("mode: enforce\nfrom: [alertmanager-prod]\n", "")))
    assert found.policies["a"].mode is Mode.OBSERVE
    assert found.match(alert("whoever", alertname="QueueDepthHigh", queue="prod-jobs"))


def test_only_named_senders_trigger_a_policy() -> None:
    found = compiled(good())
    fields = {"alertname": "QueueDepthHigh", "queue": "prod-jobs"}
    assert [policy.name for policy in found.match(alert(**fields))] == ["a"]
    assert found.match(alert("gcp-prod", **fields)) == ()
    result = found.explain("a", alert("gcp-prod", **fields))
    assert (result.matched, result.matcher) == (False, "from")
    assert (result.observed, result.allowed) == ("gcp-prod", "alertmanager-prod")


def test_explain_names_the_first_matcher_that_does_not_hold() -> None:
    found = compiled(good())
    result = found.explain("a", alert(alertname="QueueDepthHigh", queue="test\n-jobs"))
    assert (result.matched, result.matcher) == (False, 'queue=~"prod-.+"')
    assert result.observed == 'queue="test\\n-jobs"'
    result = found.explain("a", alert(alertname="QueueDepthHigh"))
    assert (result.observed, result.allowed) == ("queue is absent", 'queue=~"prod-.+"')
    result = found.explain("a", alert(alertname="QueueDepthHigh", queue="prod-jobs"))
    assert (result.matched, result.matcher) == (True, "")
    with pytest.raises(ConfigurationError, match="no policy is named 'b'"):
        found.explain("b", alert())


def test_match_and_explain_agree() -> None:
    source = random.Random(1)
    entries = ['alertname="%s"', 'queue="%s"', 'queue=~"%s.*"', 'env!="%s"', 'alertname=~"%s|x"']
    files: dict[str, str] = {}
    for number in range(60):
        chosen = [source.choice(entries) % source.choice("abc") for _ in range(source.randint(1, 3))]
        chosen.append('alertname=~".+"')
        listed = "".join(f"\n  - {entry}" for entry in chosen)
        sender = source.choice(["alertmanager-prod", "gcp-prod"])
        files |= good(
            f"p{number}",
            ('\n  - alertname="QueueDepthHigh"\n  - queue=~"prod-.+"', listed),
            ("[alertmanager-prod]", f"[{sender}]"),
        )
    found = compiled(files)
    hits = 0
    for _ in range(200):
        labels = {
            name: source.choice("abcx") for name in ("alertname", "queue", "env") if source.random() < 0.8
        }
        about = alert(source.choice(["alertmanager-prod", "gcp-prod"]), **labels)
        matched = [policy.name for policy in found.match(about)]
        assert matched == [name for name in found.policies if found.explain(name, about).matched]
        hits += len(matched)
    assert hits > 100


def test_the_hash_is_of_names_and_texts() -> None:
    files = good("a") | good("b")
    assert compiled(files).hash == content_hash(dict(reversed(files.items())))
    assert content_hash({"a": "b", "c": ""}) != content_hash({"a": "bc"}) != content_hash({"ab": "c"})
    changed = files | {"b.yaml": files["b.yaml"] + "# more\n"}
    assert content_hash(changed) != content_hash(files)


def test_two_policies_of_one_name_are_refused() -> None:
    files = good("a")
    assert faults({"x/a.yaml": files["a.yaml"], "y/a.yaml": files["a.yaml"]}) == [
        "y/a.yaml:1:7: the policy 'a' stands in x/a.yaml too"
    ]


def test_limits_file() -> None:
    text = """\
global: {budget: [5 per 10m], concurrent: 2}
targets:
  - match: "postgres:*"
    budget: [3 per 1h]
storm: {new_alerts: 100, within: 1m, hold: 15m}
breaker: {ineffective: 3, demote_to: approve}
"""
    found = compiled({"limits.yaml": text} | good())
    assert ([str(budget) for budget in found.limits.budget], found.limits.concurrent) == (["5 per 10m"], 2)
    (limit,) = found.limits.targets
    assert [limit.covers(name) for name in ("postgres:orders", "mysql:orders")] == [True, False]
    assert found.limits.storm.hold == 15 * MINUTE
    assert (found.limits.breaker.ineffective, found.limits.breaker.demote_to) == (3, "approve")
    assert found.warnings == ()
    assert faults({"limits.yaml": "storm: {new_alerts: 9, within: 2h, hold: 15m}\n"}) == [
        "limits.yaml:1:8: storm: `within:` is 2h; 1s to 1h is allowed"
    ]
    assert faults({"limits.yaml": "storm: {new_alerts: 9, within: 1m, hold: 15m, escalate: on-cal}\n"}) == [
        "limits.yaml:1:57: no chain is named 'on-cal' in escalation.yaml; there is none"
    ]
    assert faults({"limits.yaml": "breaker: {ineffective: 3, demote_to: enforce}\n"})[0].startswith(
        "limits.yaml:1:38: demote_to"
    )
    assert faults({"limits.yaml": "targets: [{match: 'x', budget: [3 per hour]}]\nstrom: 1\n"}) == [
        "limits.yaml:1:33: 'hour' is not a duration; write for example 30s, 5m, 2h, 7d or 1m30s",
        "limits.yaml:2:1: unknown key 'strom'; did you mean 'storm'?",
    ]


@pytest.mark.parametrize("files", [{}, {"limits.yaml": "global: {concurrent: 5}\n"}])
def test_brakes_are_there_although_nobody_wrote_them(files: dict[str, str]) -> None:
    """As the library's own limits.yaml has them."""
    limits = compiled(files | good()).limits
    shipped = compiled({"limits.yaml": (LIBRARY / "limits.yaml").read_text()} | good()).limits
    assert (limits.storm, limits.breaker) == (shipped.storm, shipped.breaker)
    assert (limits.storm.new_alerts, limits.storm.within, limits.storm.hold) == (100, MINUTE, 15 * MINUTE)
    assert (limits.breaker.ineffective, limits.breaker.demote_to) == (3, "approve")


def test_escalation_file() -> None:
    text = """\
chains:
  on-call:
    - {after: 0m, notify: [log, primary]}
    - {after: 60m, notify: [team], if: "severity <= P1"}
acknowledge_within: {P1: 5m, P2: 30m}
"""
    found = compiled({"escalation.yaml": text} | good("a", ("on_failure", "escalate: on-call\non_failure")))
    first, second = found.escalation.chains["on-call"]
    assert (first.after, first.notify, first.if_) == (0, ("log", "primary"), None)
    assert second.if_ == Condition("<=", Severity.P1)
    assert [severity for severity in Severity if second.if_.holds(severity)] == [Severity.P1]
    assert found.escalation.deadline(Severity.P2) == 30 * MINUTE
    assert found.escalation.deadline(Severity.P3) is None
    (fault,) = faults({"escalation.yaml": "chains: {on-call: []}\n"})  # whoever it should call is not told
    assert "on-call has 0 entries; at least 1 must stand there" in fault
    broken = text.replace("[team]", "[teem]").replace("P2: 30m", "P2: 30")
    assert faults({"escalation.yaml": broken.replace("30}", "30m}")}) == [
        "escalation.yaml:4:29: no notifier is named 'teem' in the settings; did you mean 'team'?"
    ]
    assert faults({"escalation.yaml": broken}) == [
        "escalation.yaml:5:34: P2: 30 is not a duration; write for example 30s, 5m, 2h, 7d or 1m30s"
    ]
    (fault,) = faults({"escalation.yaml": text.replace("P1: 5m", "P1: 0s")})
    assert fault.startswith("escalation.yaml:5:")
    assert "P1: is 0s" in fault
    assert "1m" in fault
    assert "is not a condition" in faults({"escalation.yaml": text.replace("severity <= P1", "P1")})[0]


def test_windows_file() -> None:
    text = """\
windows:
  - name: business-hours
    time_intervals:
      - {weekdays: ["monday:friday"], times: [{start_time: "08:00", end_time: "18:00"}], location: Europe/Berlin}
"""
    found = compiled({"windows.yaml": text} | good())
    assert list(found.windows) == ["business-hours"]
    assert found.windows["business-hours"].announce == (14 * DAY, 2 * DAY)
    relies = good("a", ("on_failure", "only_during: [business-hours]\non_failure"))
    assert compiled({"windows.yaml": text} | relies).policies["a"].only_during == ("business-hours",)
    assert faults({"windows.yaml": text + "    effect: wait\n    notify: [tam]\n"}) == [
        "windows.yaml:6:14: no notifier is named 'tam' in the settings; did you mean 'team'?",
    ]
    assert faults({"windows.yaml": text + "    announce: [48, 99d]\n    updates: 10s\n"}) == [
        "windows.yaml:5:16: 48 is not a duration; write for example 30s, 5m, 2h, 7d or 1m30s",
        "windows.yaml:5:20: 99d is too long before; at most 30d",
        "windows.yaml:6:14: updates: 10s is too often; at least 5m",
    ]
    assert faults({"windows.yaml": text + "    effect: stop\n"})[0].startswith("windows.yaml:5:13:")
    assert faults({"windows.yaml": text.replace("monday:friday", "mondy:friday")}) == [
        "windows.yaml:4:21: 'mondy' is not a weekday; did you mean 'monday'?"
    ]


def test_a_policy_that_no_window_ever_lets_act_is_refused() -> None:
    text = """\
windows:
  - name: night
    time_intervals: [{times: [{start_time: "00:00", end_time: "06:00"}]}]
  - name: freeze
    time_intervals: [{times: [{start_time: "00:00", end_time: "05:59"}]}]
    effect: wait
"""
    relies = good("a", ("on_failure", "only_during: [night]\non_failure"))
    assert compiled({"windows.yaml": text} | relies).windows  # a minute is left
    assert faults({"windows.yaml": text.replace("05:59", "06:00")} | relies) == [
        "a.yaml:23:1: it could never act: whenever night is open, a window of effect wait is open too"
    ]
    some = text.replace("05:59", "06:00") + "    targets: ['postgres:*']\n"
    assert compiled({"windows.yaml": some} | relies).windows  # other targets are left


def test_a_verify_that_looks_too_early_is_warned_about() -> None:
    """What needed five minutes to show, may need as long to go; and a cooldown that ends before verify can
    know lets another policy act on what has just been healed."""
    assert compiled(good("a", ("within: 20m", "within: 4m"))).warnings == (
        "a.yaml: verify.within is 4m and for is 5m: what needed that long to show may need as long to go, "
        "so a good fix can be judged too early",
    )
    hasty = ("on_failure", "limits: {cooldown: 1m}\non_failure")
    (warning,) = compiled(good("a", hasty, ("  after: 2m", "  after: 2m\n  stable_for: 1m"))).warnings
    assert warning.startswith("a.yaml: limits.cooldown is 1m and verify needs 2m + 1m (after, stable_for)")
    watching = ("mode: enforce", "mode: observe"), ("within: 20m", "within: 4m")
    assert compiled(good("a", *watching)).warnings == ()


def test_many_policies_without_an_equality_matcher_are_warned_about() -> None:
    def files(count: int) -> dict[str, str]:
        return {
            name: text.replace('alertname="QueueDepthHigh"', 'alertname=~"Queue.*"')
            for number in range(count)
            for name, text in good(f"p{number}").items()
        }

    assert compiled(files(100)).warnings == ()
    (warning,) = compiled(files(101)).warnings
    assert warning.startswith("101 policies have no matcher with =")


def test_values_are_frozen() -> None:
    found = compiled(good())
    with pytest.raises(AttributeError):
        found.hash = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        found.policies["b"] = found.policies["a"]  # type: ignore[index]
    with pytest.raises(ValueError, match="frozen"):
        found.policies["a"].mode = Mode.OBSERVE


def test_a_policy_can_be_written_in_python_too() -> None:
    use = {"action": "pool.resize", "with_": {"group": "g"}}
    found = Policy.model_validate({"name": "x", "match": ["a=b"], "remedies": [use], "for_": 1000})
    assert found.for_ == 1000
    assert found.remedies[0].actions[0].with_ == {"group": "g"}
