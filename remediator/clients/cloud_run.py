"""Cloud Run: how a service's traffic is divided between its revisions.

Source of facts: Cloud Run Admin API v2, Services and Revisions
(https://cloud.google.com/run/docs/reference/rpc/google.cloud.run.v2).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from remediator.errors import ActionError, Refused, Temporary
from remediator.model import Instant, Reason, Struct

if TYPE_CHECKING:
    from google.cloud import run_v2

    from remediator.clients.gcp import GcpClient

Shares = dict[str, int]
"""Revision → percent of the traffic, without those that get none."""


class Service(Struct, frozen=True, kw_only=True):
    """One service, as far as its traffic goes.

    name: the resource name, `projects/…/locations/…/services/…`.
    traffic: what it is told to do; serving: what it does.
    latest: the newest ready revision, "" if there never was one.
    follows: whether traffic is told to follow whatever is the newest ready one.
    busy: a change is being carried out. failed: why the last one was not, in Google's words.
    """

    name: str
    etag: str
    traffic: Shares
    serving: Shares
    latest: str
    follows: bool
    busy: bool
    failed: str


class Revision(Struct, frozen=True, kw_only=True):
    """One revision: whether it is ready to serve, and when it was deployed."""

    name: str
    ready: bool
    created_at: Instant


class CloudRun:
    """The services of one project."""

    def __init__(self, gcp: GcpClient) -> None:
        self._gcp = gcp
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}

    def service(self, region: str, service: str) -> Service:
        """Read one service.

        Raises:
            ActionError: it could not be read.
        """
        return _service(self._get(region, service))

    def revisions(self, region: str, service: str) -> tuple[Revision, ...]:
        """Its revisions, newest first, without deleted ones.

        Raises:
            ActionError: they could not be listed.
        """
        from google.cloud.run_v2 import Condition

        gcp = self._gcp
        with gcp.calling("run ListRevisions"):
            pages = self._client("revisions").list_revisions(
                request={"parent": self._name(region, service), "page_size": 100},
                timeout=gcp.timeout,
                retry=None,
            )
            found = [
                Revision(
                    name=_short(one.name),
                    ready=any(
                        condition.type_ == "Ready" and condition.state == Condition.State.CONDITION_SUCCEEDED
                        for condition in one.conditions
                    ),
                    created_at=Instant(int(one.create_time.timestamp() * 1000)),
                )
                for one in pages
                if not one.delete_time
            ]
        return tuple(sorted(found, key=lambda one: (one.created_at, one.name), reverse=True))

    def set_traffic(
        self,
        region: str,
        service: str,
        traffic: Mapping[str, int],
        *,
        etag: str,
        latest: str = "",
        while_busy: bool = False,
    ) -> str:
        """Divide the traffic anew, if nothing else of the service has changed since `etag`.

        Only traffic is changed: the service is sent back as it was read, under an update mask. Tags stay.

        Args:
            traffic: revision → percent, 100 in all.
            latest: the revision whose share shall follow whatever is the newest ready one.
            while_busy: also while another change is being carried out.

        Returns:
            The name of the long-running operation that this started.

        Raises:
            Refused: (CHANGED_BY_PERSON) the service is no longer at `etag`; nothing was changed.
            Temporary, Permanent: nothing was changed.
            Ambiguous: it may have been.
        """
        gcp = self._gcp
        present = self._get(region, service)
        if present.etag != etag:
            raise self._changed(present.name)
        if present.reconciling and not while_busy:
            raise Temporary(f"gcp:{gcp.name}: {present.name} is being changed already; wait for that to end")
        present.traffic = _targets(traffic, latest, present.traffic)
        client = self._client("services")
        # it is sent with the etag just compared: ABORTED says that it became stale since
        with gcp.calling("run UpdateService", changes=True, aborted=self._changed(present.name)):
            operation = client.update_service(
                request={"service": present, "update_mask": {"paths": ["traffic"]}},
                timeout=gcp.timeout,
                retry=None,
            )
        return str(operation.operation.name)

    def _get(self, region: str, service: str) -> run_v2.Service:
        gcp = self._gcp
        with gcp.calling("run GetService"):
            found: run_v2.Service = self._client("services").get_service(
                request={"name": self._name(region, service)}, timeout=gcp.timeout, retry=None
            )
        return found

    def _name(self, region: str, service: str) -> str:
        return f"projects/{self._gcp.project}/locations/{region}/services/{service}"

    def _client(self, kind: str) -> Any:
        from google.cloud import run_v2
        from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcTransport
        from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport

        channel = self._gcp.channel("run")
        with self._lock:
            if not self._made:
                self._made = {
                    "services": run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=channel)),
                    "revisions": run_v2.RevisionsClient(transport=RevisionsGrpcTransport(channel=channel)),
                }
            return self._made[kind]

    def _changed(self, name: str) -> ActionError:
        return Refused(
            Reason.CHANGED_BY_PERSON,
            f"{name} was changed by somebody else since it was looked at; nothing was done",
            observed="another etag",
            allowed="the etag of the plan",
        )


def _service(found: run_v2.Service) -> Service:
    from google.cloud.run_v2 import Condition

    newest = _short(found.latest_ready_revision)
    told = list(found.traffic)
    condition = found.terminal_condition
    return Service(
        name=found.name,
        etag=found.etag,
        # a service that was never told anything follows the newest ready revision
        traffic=_shares(told, newest) if told else ({newest: 100} if newest else {}),
        serving=_shares(found.traffic_statuses, newest),
        latest=newest,
        follows=not told or any(_follows(one) and one.percent for one in told),
        busy=found.reconciling or found.observed_generation < found.generation,
        failed=f"{condition.type_}: {condition.message}"[:300]
        if condition.state == Condition.State.CONDITION_FAILED
        else "",
    )


def _shares(targets: Iterable[Any], newest: str) -> Shares:
    shares: Shares = {}
    for one in targets:
        revision = newest if _follows(one) else _short(one.revision)
        if one.percent and revision:
            shares[revision] = shares.get(revision, 0) + one.percent
    return shares


def _follows(target: Any) -> bool:
    from google.cloud.run_v2 import TrafficTargetAllocationType

    return bool(
        target.type_ == TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
        or not target.revision
    )


def _targets(traffic: Mapping[str, int], latest: str, present: Iterable[Any]) -> list[Any]:
    from google.cloud.run_v2 import TrafficTarget, TrafficTargetAllocationType

    kinds = TrafficTargetAllocationType
    targets = []
    for revision, percent in traffic.items():
        if not percent:
            continue
        if revision == latest:
            kind = kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
            targets.append(TrafficTarget(type_=kind, percent=percent))
        else:
            kind = kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
            targets.append(TrafficTarget(type_=kind, revision=revision, percent=percent))
    # A tag is an address of its own for a revision; it stays, with a share of nothing.
    for one in present:
        if one.tag:
            targets.append(TrafficTarget(type_=one.type_, revision=one.revision, tag=one.tag))
    return targets


def _short(name: str) -> str:
    return name.rpartition("/")[2]
