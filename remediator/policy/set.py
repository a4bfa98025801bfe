"""Compiles texts into a policy set, whole or not at all: every fault of every file is reported."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar, cast

from remediator.errors import PolicyError
from remediator.policy import source
from remediator.policy.cache import Cache, key
from remediator.policy.compiled import MatchResult, PolicySet
from remediator.policy.document import Path
from remediator.policy.escalation import LOG, Escalation
from remediator.policy.faults import PolicyErrors, did_you_mean, shorten
from remediator.policy.index import Index
from remediator.policy.limits import GlobalLimits
from remediator.policy.lint import lint
from remediator.policy.matcher import Matcher
from remediator.policy.ruling import ever_open
from remediator.policy.schema import Policy
from remediator.policy.source import ESCALATION, LIMITS, WINDOWS
from remediator.policy.uses import Fault, Uses
from remediator.policy.vocabulary import Vocabulary
from remediator.policy.window import Window

__all__ = ["MatchResult", "PolicySet", "Vocabulary", "compile_set", "content_hash"]

T = TypeVar("T")

MANY_RESIDUAL = 100


def content_hash(files: Mapping[str, str]) -> str:
    """The hash of a set of files: names and texts, in whatever order."""
    digest = hashlib.sha256()
    for name in sorted(files):
        for part in (name, files[name]):
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(raw) + raw)
    return digest.hexdigest()


def compile_set(
    files: Mapping[str, str], vocabulary: Vocabulary, *, git: str = "", cache: Cache | None = None
) -> PolicySet:
    """Compile texts into a policy set. Pure but for the cache.

    Args:
        files: texts by path relative to the policies directory, as `load.read_dir` gives them.
        vocabulary: the names that may be used.
        git: the git revision of the files, kept with the set.
        cache: validated forms of files seen before.

    Raises:
        PolicyErrors: everything that is wrong in any file.
    """
    with _no_collection():
        return _Compilation(files, vocabulary, cache).finish(git)


@contextmanager
def _no_collection() -> Iterator[None]:
    """A load makes many small values and no garbage cycles: looking for some costs more than the load."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Compilation:
    def __init__(self, files: Mapping[str, str], vocabulary: Vocabulary, cache: Cache | None) -> None:
        self._files = files
        self._vocabulary = vocabulary
        self._cache = cache
        self._uses = Uses(vocabulary)
        self._errors: list[PolicyError] = []
        self._policies: dict[str, Policy] = {}
        self._matchers: dict[str, tuple[Matcher, ...]] = {}
        self._origin: dict[str, str] = {}
        self._open: dict[tuple[str, ...], bool] = {}

    def finish(self, git: str) -> PolicySet:
        windows = self._windows()
        escalation = self._escalation()
        limits = self._limits(escalation)
        self._read_policies()
        self._cross_check(windows, escalation)
        if self._errors:
            raise PolicyErrors(self._errors)
        names = sorted(self._policies)
        policies = {name: self._policies[name] for name in names}
        index = Index((policies[name], self._matchers[name]) for name in names)
        return PolicySet(
            hash=content_hash(self._files),
            git=git,
            files=MappingProxyType(dict(self._files)),
            policies=MappingProxyType(policies),
            limits=limits,
            windows=MappingProxyType(windows),
            escalation=escalation,
            warnings=(*self._lints(), *_warnings(index)),
            _matchers=self._matchers,
            _index=index,
        )

    def _limits(self, escalation: Escalation) -> GlobalLimits:
        found = self._special(LIMITS)
        if found is None:
            return GlobalLimits()
        chain = found.storm.escalate
        if chain is not None and chain not in escalation.chains:
            message = _unknown("chain", chain, escalation.chains, ESCALATION)
            self._report(LIMITS, [Fault(("storm", "escalate"), message)])
        return cast(GlobalLimits, found.limits())

    def _windows(self) -> dict[str, Window]:
        found = self._special(WINDOWS)
        windows: dict[str, Window] = {}
        for number, window in enumerate(found.windows if found is not None else ()):
            if window.name in windows:
                self._report(
                    WINDOWS, [Fault(("windows", number, "name"), f"two windows are named {window.name!r}")]
                )
            windows[window.name] = window
            self._report(WINDOWS, self._notifiers(window.notify, ("windows", number, "notify")))
        return windows

    def _escalation(self) -> Escalation:
        found: Escalation | None = self._special(ESCALATION)
        if found is None:
            return Escalation()
        for chain, steps in found.chains.items():
            for number, step in enumerate(steps):
                self._report(ESCALATION, self._notifiers(step.notify, ("chains", chain, number, "notify")))
        return found

    def _notifiers(self, names: tuple[str, ...], path: Path) -> list[Fault]:
        known = self._vocabulary.notifiers | {LOG}
        return [
            Fault(
                (*path, number),
                f"no notifier is named {shorten(name)!r} in the settings{did_you_mean(name, known)}",
            )
            for number, name in enumerate(names)
            if name not in known
        ]

    def _special(self, name: str) -> Any:
        if name not in self._files:
            return None
        return self._collect(partial(source.special, name, self._files[name]))

    def _read_policies(self) -> None:
        digest = self._vocabulary.digest() if self._cache is not None else ""
        before = self._cache.load(digest) if self._cache is not None else {}
        after: dict[str, Policy] = {}
        for file in sorted(self._files):
            if file in source.SPECIAL:
                continue
            text = self._files[file]
            text_key = key(text)
            policy = before.get(text_key)
            if policy is None:
                policy = self._collect(partial(source.policy, file, text, self._uses))
            if policy is not None:
                after[text_key] = policy
                self._add(file, policy)
        if self._cache is not None and after.keys() != before.keys():
            self._cache.save(digest, after)

    def _add(self, file: str, policy: Policy) -> None:
        if (other := self._origin.get(policy.name)) is not None:
            self._report(file, [Fault(("name",), f"the policy {policy.name!r} stands in {other} too")])
            return
        self._origin[policy.name] = file
        self._policies[policy.name] = policy
        self._matchers[policy.name] = source.matchers(policy)

    def _cross_check(self, windows: Mapping[str, Window], escalation: Escalation) -> None:
        senders, chains = self._vocabulary.senders, escalation.chains
        for name, policy in self._policies.items():
            faults: list[Fault] = []
            stem = self._origin[name].rpartition("/")[2].removesuffix(".yaml")
            if stem != name:
                faults.append(
                    Fault(
                        ("name",), f"the policy is named {name!r} and its file {stem!r}; make them the same"
                    )
                )
            for number, sender in enumerate(policy.from_):
                if sender not in senders:
                    faults.append(
                        Fault(("from", number), _unknown("sender", sender, senders, "the settings"))
                    )
            if policy.escalate is not None and policy.escalate not in chains:
                faults.append(Fault(("escalate",), _unknown("chain", policy.escalate, chains, ESCALATION)))
            for number, window in enumerate(policy.only_during):
                if window not in windows:
                    faults.append(
                        Fault(("only_during", number), _unknown("window", window, windows, WINDOWS))
                    )
            if policy.only_during and not faults and not self._ever_open(windows, policy.only_during):
                names = ", ".join(policy.only_during)
                faults.append(
                    Fault(
                        ("only_during",),
                        f"it could never act: whenever {names} is open, a window of effect wait is open too",
                        key=True,
                    )
                )
            self._report(self._origin[name], faults)

    def _lints(self) -> Iterator[str]:
        for name, policy in sorted(self._policies.items()):
            for warning in lint(policy):
                yield f"{self._origin[name]}: {warning}"

    def _ever_open(self, windows: Mapping[str, Window], only_during: tuple[str, ...]) -> bool:
        if only_during not in self._open:
            self._open[only_during] = ever_open(windows, only_during)
        return self._open[only_during]

    def _collect(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except PolicyErrors as errors:
            self._errors.extend(errors.errors)
            return None

    def _report(self, file: str, faults: list[Fault]) -> None:
        if faults:
            self._errors.extend(source.placed(file, self._files[file], faults))


def _unknown(kind: str, name: str, known: Mapping[str, object] | frozenset[str], where: str) -> str:
    return f"no {kind} is named {shorten(name)!r} in {where}{did_you_mean(name, known)}"


def _warnings(index: Index[Policy]) -> list[str]:
    found: list[str] = []
    if index.residual > MANY_RESIDUAL:
        found.append(
            f"{index.residual} policies have no matcher with = (or =~ with plain alternatives), "
            "so each new alert is compared with all of them; add one, for example on alertname"
        )
    return found
