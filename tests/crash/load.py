"""What the campaign's daemons are given: policies that share targets, bounds that bind, and alerts."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field, replace
from typing import Any

CONCURRENT = 14
GLOBAL = (40, 10)
HOT = (3, 20)
"""Of every target whose name begins with `hot`: so many actions in so many seconds, over all policies."""

STORM = (30, 2, 3)
"""So many new alerts within so many seconds, and for how long nothing is acted upon then."""
FICKLE = "fickle"
"""The policy that people change all the time."""
CLOSED = "works:t1*"
"""Targets that have a window in which nothing may start."""

_POLICY = """
name: {name}
mode: {mode}
from: [am]
match: [alertname="Crash", kind="{name}"]
for: {hold}
give_up: 45s
remedies:
{remedies}
limits: {{cooldown: {cooldown}s, per_target: [{per_target}], budget: [{budget}], concurrent: {concurrent},
  open_runs: 5000, blast_radius: 50%, flapping: 100000 per 1h}}
escalate: on-call
"""
_VERIFY = """
verify:
  within: 3s
  every: 1s
  stable_for: 1s
  checks: [{{check: works.healthy, with: {{name: "${{labels.thing}}", url: "{url}"}}, is: "== 1"}}]
"""
_WHEN = """
when: [{{check: works.healthy, with: {{name: "${{labels.thing}}", url: "{url}"}}, is: ">= 0"}}]
"""
_REMEDY = (
    '  - action: {action}\n    with: {{name: "${{labels.thing}}", url: "{url}", add: {add}, max: 1000}}\n'
)


@dataclass(frozen=True)
class Rules:
    """One policy, as the judge must know it. Budgets: (how many, in how many seconds)."""

    name: str
    actions: tuple[str, ...]
    mode: str = "enforce"
    hold: str = "0s"
    cooldown: int = 0
    per_target: tuple[int, int] = (6, 30)
    budget: tuple[int, int] = (40, 10)
    concurrent: int = 8
    verified: bool = False
    reverts: bool = False
    expires: str = ""
    when: bool = False
    approval: str = ""

    def text(self, url: str) -> str:
        """The policy file."""
        remedies = ""
        for number, action in enumerate(self.actions):
            remedies += _REMEDY.format(action=action, url=url, add=number + 1)
            remedies += f"    expires: {self.expires}\n" if self.expires else ""
        text = _POLICY.format(
            name=self.name,
            mode=self.mode,
            hold=self.hold,
            remedies=remedies,
            cooldown=self.cooldown,
            per_target="{} per {}s".format(*self.per_target),
            budget="{} per {}s".format(*self.budget),
            concurrent=self.concurrent,
        )
        text += _VERIFY.format(url=url) if self.verified else ""
        text += "on_failure: revert\n" if self.reverts else ""
        text += f"approval: {{role: operator, expires: {self.approval}}}\n" if self.approval else ""
        return text + (_WHEN.format(url=url) if self.when else "")


RULES = {
    rules.name: rules
    for rules in (
        Rules("grow", ("works.grow",), hold="1s", cooldown=3, verified=True, reverts=True, when=True),
        Rules("push", ("works.push",), budget=(10, 5)),
        Rules("brief", ("works.push_briefly",)),
        Rules("put", ("works.put",), cooldown=2, verified=True, reverts=True),
        Rules("kick", ("works.kick",), budget=(8, 10), concurrent=3),
        Rules("lend", ("works.push",), expires="5s", cooldown=1, per_target=(4, 30)),
        Rules("ladder", ("works.put", "works.push"), verified=True, reverts=True, concurrent=4),
        Rules("ask", ("works.push",), mode="approve", approval="15s"),
        Rules(FICKLE, ("works.push",)),
        Rules("watch", ("works.grow",), mode="observe"),
    )
}


def fickle(url: str, mode: str) -> str | None:
    """The file of the policy that people change; None where it is gone."""
    return replace(RULES[FICKLE], mode=mode).text(url) if mode else None


def policies(url: str, closed: tuple[str, str] | None = None) -> dict[str, str]:
    """The files of the policy directory, for a witness at `url`.

    Args:
        closed: from when to when (UTC, HH:MM) no action may start on some of the targets.
    """
    times = f"[{{start_time: '{closed[0]}', end_time: '{closed[1]}'}}]" if closed else ""
    window = f"{{name: closed, time_intervals: [{{times: {times}}}], targets: ['{CLOSED}'], effect: wait}}"
    return {
        **({"windows.yaml": f"windows: [{window}]\n"} if closed else {}),
        **{f"{name}.yaml": rules.text(url) for name, rules in RULES.items()},
        "escalation.yaml": "chains: {on-call: [{after: 0m, notify: [log]}]}\n",
        "limits.yaml": "global: {{budget: [{} per {}s], concurrent: {}}}\n".format(*GLOBAL, CONCURRENT)
        + "breaker: {ineffective: 100, demote_to: approve}\n"
        + "storm: {{new_alerts: {}, within: {}s, hold: {}s}}\n".format(*STORM)
        + 'targets: [{{match: "works:hot*", budget: [{} per {}s]}}]\n'.format(*HOT),
    }


@dataclass
class Problem:
    """One episode as its sender sees it. `started` is set when it is first sent.

    resolves: after how many seconds, None for never. kind: the policy it is for, or one that none has.
    """

    fingerprint: str
    kind: str
    thing: str
    resolves: float | None
    started: int = 0
    accepted: bool = False
    labels: dict[str, str] = field(default_factory=dict)

    def body(self, status: str = "firing") -> dict[str, Any]:
        """The alert as Alertmanager sends it."""
        self.started = self.started or int(time.time() * 1000)
        seconds, millis = divmod(self.started, 1000)
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return {
            "status": status,
            "labels": {"alertname": "Crash", "severity": "critical", "kind": self.kind, "thing": self.thing},
            "annotations": {},
            "startsAt": f"{at}.{millis:03d}Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": self.fingerprint,
        }


def problems(count: int, seed: int) -> list[Problem]:
    """So many episodes, on about a sixth as many targets: some hot, some that never heal."""
    luck = random.Random(f"load {seed}")
    things = [f"{luck.choice(('t', 't', 't', 'bad', 'hot'))}{number}" for number in range(max(4, count // 6))]
    kinds = [*RULES, *RULES, "push", "put", "lend", "nobody"]
    return [
        Problem(
            fingerprint=f"{luck.getrandbits(64):016x}",
            kind=luck.choice(kinds),
            thing=luck.choice(things),
            resolves=luck.uniform(0.5, 12) if luck.random() < 0.4 else None,
        )
        for _ in range(count)
    ]
