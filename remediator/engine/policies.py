"""The policy set in force: loaded from the store, proposed from the directory, whole or not at all."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from remediator import metrics
from remediator.contracts import Catalogue, Match, Opening, Revision, Store
from remediator.engine.openings import openings
from remediator.errors import ConfigurationError, NotFound
from remediator.model import Alert, AuditEvent, Instant, Reason
from remediator.policy.bygone import refuse_bygone
from remediator.policy.load import read_dir
from remediator.policy.set import PolicySet

log = structlog.get_logger()

Compile = Callable[[Mapping[str, str]], PolicySet]
Read = Callable[[Path], dict[str, str]]
_KEPT = 16
"""Compiled former revisions kept for runs that started with them."""
_RULED = (Reason.WINDOW, Reason.STORM, Reason.BUDGET, Reason.COOLDOWN, Reason.APPROVAL_PENDING)
"""Waits that know when to look again, by rules that may have changed with the set. A question of a policy
that is gone or demoted is so withdrawn at once: nobody is to get up for it."""


class Policies:
    """Holds the active set and the sets of runs that are still open.

    Args:
        compile: texts → set; raises ConfigurationError with every fault.
        directory: where new sets come from; None means that only the store's is used.
        read: directory → texts.
        replica: this replica's name, the same after a restart.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        compile: Compile,
        directory: Path | None,
        read: Read = read_dir,
        replica: str = "",
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._compile = compile
        self._directory = directory
        self._read = read
        self._replica = replica
        self._sets: dict[str, PolicySet] = {}
        self._unreadable: dict[str, str] = {}
        self._seen: dict[str, str] | None = None
        self._refused = ""
        self._behind = ""
        self.current: PolicySet | None = None
        self.fault = ""

    @property
    def hash(self) -> str:
        return self.current.hash if self.current is not None else ""

    @property
    def usable(self) -> bool:
        """Whether the set in force here is the active one, as far as is known."""
        return self.current is not None and not self._behind

    def match(self, alert: Alert, now: Instant) -> Sequence[Opening]:
        """The runs that a new alert opens under the active set."""
        return self.matching()(alert, now)

    def matching(self) -> Match:
        """What matches by the set that is active now, also if another is by the time the store asks: a
        delivery is recorded with the revision whose answer it had."""
        active, catalogue = self.current, self._catalogue
        if active is None:
            return lambda _alert, _now: ()
        return lambda alert, now: openings(active, catalogue, alert, now)

    async def start(self) -> None:
        """Load the store's active set, and propose the directory's if it differs.

        Raises:
            ConfigurationError: neither can be used.
        """
        await self.reload()
        if self.current is None:
            raise ConfigurationError(
                self.fault or f"no policies: {self._directory} holds none and the store knows none"
            )

    async def reload(self) -> bool:
        """Take up what changed, in the store or in the directory; returns whether anything did.

        A set with a fault changes nothing: the old one stays, `fault` says why, and the audit log
        and the metrics show it.
        """
        before = self.hash
        try:
            await self._follow()
        except ConfigurationError as error:
            self._behind = str(error)  # no obstacle to the directory's, which may be made for these settings
        unread = ""
        if self._directory is not None:
            try:
                await self._propose(await asyncio.to_thread(self._read, self._directory))
            except ConfigurationError as error:
                unread = str(error)
        self._say(unread or self._refused or self._behind)
        return self.hash != before

    async def revision(self, hash: str) -> PolicySet:
        """A set by its hash, compiled from the store's text.

        Raises:
            ConfigurationError: its text no longer compiles (a connection was removed, say).
        """
        if self.current is not None and self.current.hash == hash:
            return self.current
        if hash in self._unreadable:  # settings do not change while a process lives
            raise ConfigurationError(self._unreadable[hash])
        found = self._sets.get(hash)
        if found is None:
            stored = await self._store.revision(hash)
            try:
                found = await asyncio.to_thread(self._compile, stored.files)
            except ConfigurationError as error:
                self._unreadable[hash] = str(error)
                raise
            self._sets[hash] = found
            while len(self._sets) > _KEPT:
                del self._sets[next(iter(self._sets))]
        return found

    async def _follow(self) -> None:
        """Use what the store says is active: another replica may have changed it."""
        active = await self._store.active_revision()
        if active is not None and active != self.hash:
            await self._take_up(await self.revision(active))
        self._behind = ""

    async def _propose(self, files: dict[str, str]) -> None:
        """Make these files the active set, unless they are what was looked at last."""
        if files == self._seen:
            return  # only a change of the directory is a proposal
        try:
            proposed = await asyncio.to_thread(self._compile, files)
            if proposed.hash != self.hash:
                refuse_bygone(proposed, await self._store.now())
        except ConfigurationError as error:
            event = AuditEvent(kind="policy.rejected", observed=str(error)[:4000], allowed="no fault")
            await self._store.record((event,))
            self._seen, self._refused = files, str(error)
            return
        if not proposed.policies and self.current is not None and self.current.policies:
            # A volume that is not mounted looks like this.
            said = (
                f"{self._directory} holds no policy any more; the {len(self.current.policies)} active stay. "
                "To stop them all, pause the daemon"
            )
            event = AuditEvent(kind="policy.rejected", observed=said, allowed="at least one policy")
            await self._store.record((event,))
            self._seen, self._refused = files, said
            return
        lags = await self._lags(proposed)
        if lags:
            self._seen, self._refused = files, lags
            return
        if proposed.hash == self.hash:
            if await self._store.looked(self._replica) != proposed.hash:
                await self._store.look(self._replica, proposed.hash)
        else:
            event = AuditEvent(
                kind="policy.loaded",
                observed=proposed.hash,
                data={
                    "policies": len(proposed.policies),
                    "before": self.hash,
                    "git": proposed.git,
                    "warnings": list(proposed.warnings),
                },
            )
            revision = Revision(hash=proposed.hash, files=dict(proposed.files), git=proposed.git)
            await self._store.propose(revision, (event,), self._replica)
            await self._take_up(proposed)
        # Only now: what the store could not take is proposed again at the next look.
        self._seen, self._refused, self._behind = files, "", ""

    async def _lags(self, proposed: PolicySet) -> str:
        """Why the directory is no proposal although it differs from the active set; "" if it is one.

        Only a change of the directory is. At the first look after a start it has changed if it holds
        something else than this replica saw when it last looked; one that never looked proposes only what
        was never active, for it may have an old copy of the files.
        """
        if self._seen is not None or self.current is None or self._behind or proposed.hash == self.hash:
            return ""
        before = await self._store.looked(self._replica)
        if before is None:
            try:
                await self._store.revision(proposed.hash)
            except NotFound:
                return ""
        elif before != proposed.hash:
            return ""
        return (
            f"{self._directory} holds the former set {proposed.hash[:12]} and has not changed since it was "
            f"last looked at here; {self.hash[:12]} stays active. Bring the directory up to date; to go back "
            "to the former set, change the directory while the daemon runs"
        )

    async def _take_up(self, policies: PolicySet) -> None:
        first = self.current is None
        self._use(policies)
        if not first:
            await self._store.wake_held(_RULED)

    def _use(self, policies: PolicySet) -> None:
        if self.current is not None:
            self._sets[self.current.hash] = self.current
        self.current = policies
        metrics.declare(policies=policies.policies)
        metrics.POLICIES.set(len(policies.policies))
        metrics.POLICY_SET.info({"hash": policies.hash})
        metrics.POLICIES_LOADED_TIMESTAMP_SECONDS.set_to_current_time()
        gc.freeze()  # a large set is not walked again at every full collection
        for warning in policies.warnings:
            log.warning("policy.warning", warning=warning)
        log.info("policies.loaded", hash=policies.hash, policies=len(policies.policies))

    def _say(self, fault: str) -> None:
        if fault and fault != self.fault:
            log.error("policies.rejected", fault=fault)
        self.fault = fault
        metrics.POLICIES_REJECTED.set(1 if fault else 0)
