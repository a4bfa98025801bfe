"""A compiled set of policies: what an alert triggers, and why or why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from remediator.errors import ConfigurationError
from remediator.model import Alert, Mode
from remediator.policy.escalation import Escalation
from remediator.policy.faults import did_you_mean, shorten
from remediator.policy.index import Index
from remediator.policy.limits import GlobalLimits
from remediator.policy.matcher import Matcher
from remediator.policy.schema import Policy
from remediator.policy.window import Window


@dataclass(frozen=True, slots=True)
class MatchResult:
    """Why a policy does or does not match an alert.

    Args:
        matched: whether it does.
        matcher: the first condition that does not hold (`from`, or a matcher); "" when matched.
        observed: what the alert has there.
        allowed: what would have matched.
    """

    matched: bool
    matcher: str = ""
    observed: str = ""
    allowed: str = ""


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A compiled set of policies. Frozen; a changed directory makes a new one.

    Args:
        hash: of the files' names and texts.
        git: the git revision they came from, "" where unknown.
        files: the texts it was compiled from, by name.
        policies: by name, in sorted order.
        windows: by name.
        warnings: what was accepted, and yet a person should know.
    """

    hash: str
    git: str
    files: Mapping[str, str]
    policies: Mapping[str, Policy]
    limits: GlobalLimits
    windows: Mapping[str, Window]
    escalation: Escalation
    warnings: tuple[str, ...]
    _matchers: Mapping[str, tuple[Matcher, ...]] = field(repr=False)
    _index: Index[Policy] = field(repr=False)

    def match(self, alert: Alert) -> tuple[Policy, ...]:
        """The policies that an alert triggers, by name."""
        found = self._index.find(alert.labels)
        if not found:  # nearly always
            return ()
        return tuple(policy for policy in found if _listens(policy, alert.sender))

    def explain(self, policy_name: str, alert: Alert) -> MatchResult:
        """Why one policy does or does not match.

        Raises:
            ConfigurationError: there is no such policy in this set.
        """
        policy = self.policies.get(policy_name)
        if policy is None:
            raise ConfigurationError(
                f"no policy is named {shorten(policy_name)!r}{did_you_mean(policy_name, self.policies)}"
            )
        if not _listens(policy, alert.sender):
            return MatchResult(False, "from", alert.sender, ", ".join(policy.from_))
        return next(iter(self.unmatched(policy_name, alert.labels)), MatchResult(True))

    def unmatched(self, policy_name: str, labels: Mapping[str, str]) -> tuple[MatchResult, ...]:
        """Each matcher of a policy that does not hold for labels, whoever sent them."""
        return tuple(
            _not_held(matcher, labels)
            for matcher in self._matchers[policy_name]
            if not matcher.matches(labels)
        )

    def implied(self, policy_name: str) -> Mapping[str, str]:
        """The labels of which every alert that a policy matches has this one value."""
        found: dict[str, str] = {}
        for matcher in self._matchers[policy_name]:
            if len(values := matcher.literals()) == 1:
                found[matcher.name] = values[0]
        return found


def _not_held(matcher: Matcher, labels: Mapping[str, str]) -> MatchResult:
    seen = labels.get(matcher.name)
    observed = f"{matcher.name} is absent" if seen is None else f'{matcher.name}="{shorten(seen)}"'
    return MatchResult(False, str(matcher), observed, str(matcher))


def _listens(policy: Policy, sender: str) -> bool:
    return sender in policy.from_ or (not policy.from_ and policy.mode is Mode.OBSERVE)
