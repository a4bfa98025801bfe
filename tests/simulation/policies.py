"""The policies of a simulation: as numbers for the oracle, and as the texts that the engine reads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

GROUPS = ("a", "b", "c", "aa")
"""`aa` is another name of `a`: one target."""
KEYS = {"a": "sim/a", "aa": "sim/a", "b": "sim/b", "c": "sim/c"}
ALERTS = ("Ask", "Grow", "Token", "Ladder", "Bounce", "Cond", "Watch", "Lease")
MOST = 10
WINDOW = (481, 483, "sim/b")
"""From and to, in minutes of the day (simulations begin at 08:00 UTC), and the target."""


CHAINS = """
chains:
  on-call:
    - {after: 0m, notify: [primary]}
    - {after: 1m, notify: [secondary]}
"""
WINDOWS = """
windows:
  - name: quiet-hour
    time_intervals: [{{times: [{{start_time: "08:01", end_time: "08:03"}}]}}]
    targets: ["sim:b"]
    effect: {effect}
"""


@dataclass(frozen=True)
class Rung:
    action: str
    add: int = 2
    by: int = 0
    expires: int = 0
    """seconds; 0 is no lease"""

    @property
    def text(self) -> str:
        by = f", by: {self.by}" if self.by else ""
        expires = f"    expires: {self.expires}s\n" if self.expires else ""
        if self.action == "sim.restart":
            return f'  - action: sim.restart\n    with: {{group: "${{labels.group}}"}}\n{expires}'
        values = f'{{group: "${{labels.group}}", add: {self.add}, max: {MOST}{by}}}'
        return f"  - action: {self.action}\n    with: {values}\n{expires}"


@dataclass(frozen=True)
class Spec:
    """One policy. Spans are seconds; budgets are (count, window)."""

    name: str
    alert: str
    rungs: tuple[Rung, ...]
    mode: str = "enforce"
    hold: int = 0
    give_up: int = 120
    cooldown: int = 30
    per_target: tuple[int, int] = (2, 180)
    budget: tuple[int, int] = (3, 240)
    concurrent: int = 1
    open_runs: int = 4
    blast: int = 8
    """in the action's unit"""
    verify: tuple[int, int, int] | None = (40, 5, 0)
    """within, every, stable_for"""
    when: bool = False
    on_failure: str = "revert"

    @property
    def text(self) -> str:
        level = f'{{check: sim.level, with: {{group: "${{labels.group}}", by: {self.name}}}, is: '
        lines = [
            f"name: {self.name}",
            "severity: P2",
            f"mode: {self.mode}",
            "from: [am]",
            f'match: [alertname="{self.alert}"]',
            f"for: {self.hold}s",
            f"give_up: {self.give_up}s",
            *([f'when: [{level}"> 50"}}]'] if self.when else []),
            "remedies:",
            "".join(rung.text for rung in self.rungs).rstrip("\n"),
            "limits:",
            f"  cooldown: {self.cooldown}s",
            f"  per_target: [{self.per_target[0]} per {self.per_target[1]}s]",
            f"  budget: [{self.budget[0]} per {self.budget[1]}s]",
            f"  concurrent: {self.concurrent}",
            f"  open_runs: {self.open_runs}",
            f"  blast_radius: {self.blast}",
        ]
        if self.verify is not None:
            within, every, stable = self.verify
            lines += [
                "verify:",
                f"  within: {within}s",
                f"  every: {every}s",
                f"  stable_for: {stable}s",
                f'  checks: [{level}"< 50"}}]',
            ]
        lines += [f"on_failure: {self.on_failure}", "escalate: on-call"]
        if self.mode == "approve":
            lines.append("approval: {role: operator, expires: 40s}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Rules:
    """A whole set."""

    specs: dict[str, Spec]
    budget: tuple[int, int] = (5, 240)
    concurrent: int = 2
    storm: tuple[int, int, int] | None = None
    """new alerts, within, hold"""
    breaker: tuple[int, str] | None = None
    """ineffective runs, and what is left then"""
    window: str = ""
    """the effect of the window that there is"""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, str]:
        most, window = self.budget
        limits = [f"global: {{budget: [{most} per {window}s], concurrent: {self.concurrent}}}\n"]
        new, within, hold = self.storm or (1_000_000, 1, 1)  # there is always one: this none ever is
        limits.append(f"storm: {{new_alerts: {new}, within: {within}s, hold: {hold}s}}\n")
        ineffective, demote_to = self.breaker or (100, "observe")
        limits.append(f"breaker: {{ineffective: {ineffective}, demote_to: {demote_to}}}\n")
        return {
            **{f"{spec.name}.yaml": spec.text for spec in self.specs.values()},
            "limits.yaml": "".join(limits),
            "escalation.yaml": CHAINS,
            **({"windows.yaml": WINDOWS.format(effect=self.window)} if self.window else {}),
            **self.extra,
        }

    def changed(self, how: str, which: int) -> Rules:
        """What a pull request makes of them."""
        specs = dict(self.specs)
        names = sorted(specs)
        name = names[which % len(names)] if names else ""
        match how:
            case "demote" if name:
                specs[name] = replace(specs[name], mode="observe")
            case "remove" if name:
                del specs[name]
            case "tighten" if name:
                spec = specs[name]
                specs[name] = replace(spec, budget=(1, spec.budget[1]), cooldown=spec.cooldown + 10)
            case "broken":
                return replace(self, extra={"limits.yaml": "global: {budget: many}\n"})
            case "empty":
                specs = {}
        return replace(self, specs=specs)


def rules(random: Random) -> Rules:
    """A set with limits drawn from few values: so each is compiled once and used by many seeds."""
    tight = random.random() < 0.5
    verify = random.choice(((40, 5, 0), (40, 10, 20)))
    hold = random.choice((0, 10))
    failure = random.choice(("revert", "keep"))
    when = random.random() < 0.3
    budget = (2, 180) if tight else (6, 120)
    specs = (
        Spec(
            "grow", "Grow", (Rung("sim.resize"),), verify=verify, on_failure=failure, when=when, budget=budget
        ),
        Spec(
            "token", "Token", (Rung("sim.resize_by_token", 3),), verify=verify, hold=hold, on_failure=failure
        ),
        Spec(
            "ladder",
            "Ladder",
            (Rung("sim.resize", 4, by=2), Rung("sim.resize_if", 1)),
            verify=(20, 5, 0),
            on_failure="revert",
            concurrent=2,
        ),
        Spec(
            "bounce",
            "Bounce",
            (Rung("sim.resize_by_token", 1), Rung("sim.restart")),
            verify=(20, 5, 0),
            on_failure="keep",
        ),
        Spec("cond", "Cond", (Rung("sim.resize_if", 2, expires=60),), verify=verify, on_failure=failure),
        Spec("ask", "Ask", (Rung("sim.resize", 3),), mode="approve", verify=verify, on_failure=failure),
        Spec("watch", "Watch", (Rung("sim.resize"),), mode="observe"),
        Spec("lease", "Lease", (Rung("sim.resize_by_token", 2, expires=40),), verify=None, cooldown=10),
    )
    return Rules(
        {spec.name: spec for spec in specs},
        budget=(3, 180) if tight else (8, 120),
        concurrent=random.choice((1, 2)),
        storm=(8, 20, 40) if tight else None,
        breaker=random.choice((None, (2, "observe"), (1, "observe"), (1, "approve"))),
        window=random.choice(("", "", "wait", "observe")),
    )
