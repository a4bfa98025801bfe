"""The Cloud Run Admin API v2 as far as traffic needs it: services, revisions, etags, an update that goes on
after its answer. Revisions become the latest when they are ready, as the real ones do."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping

from google.cloud import run_v2
from google.longrunning import operations_pb2

from tests.fakes.rpc import FakeRpc, Rejected

PROJECT = "example-prod"
REGION = "us-central1"
_EPOCH = 1_795_000_000
_State = run_v2.Condition.State
_Kind = run_v2.TrafficTargetAllocationType
_LATEST = _Kind.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
_REVISION = _Kind.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION


class FakeCloudRun(FakeRpc):
    """Serves both Services and Revisions, for `endpoints: {run: <address>}`.

    Args:
        progress: seconds until a changed service serves as told; 0: at once; None: `finish` says.
        honours_mask: whether `update_mask` is looked at, or the whole service is taken as it is sent.
    """

    def __init__(self, progress: float | None = 0.0, *, honours_mask: bool = True) -> None:
        super().__init__(
            {
                "google.cloud.run.v2.Services": {
                    "GetService": (self._get, run_v2.GetServiceRequest, run_v2.Service),
                    "UpdateService": (self._update, run_v2.UpdateServiceRequest, operations_pb2.Operation),
                },
                "google.cloud.run.v2.Revisions": {
                    "ListRevisions": (
                        self._list,
                        run_v2.ListRevisionsRequest,
                        run_v2.ListRevisionsResponse,
                    )
                },
            }
        )
        self.progress = progress
        self.honours_mask = honours_mask
        self._lock = threading.RLock()
        self._clock = _EPOCH
        self._services: dict[str, run_v2.Service] = {}
        self._revisions: dict[str, list[run_v2.Revision]] = {}

    # ------------------------------------------------------------ what a person with gcloud does

    def deploy(self, service: str, revision: str, *, ready: bool = True, region: str = REGION) -> None:
        """A new revision, of a new service if there is none. A service follows its latest revision until
        `set_traffic` says otherwise."""
        name = _name(service, region)
        with self._lock:
            self._clock += 60
            state = _State.CONDITION_SUCCEEDED if ready else _State.CONDITION_FAILED
            made = run_v2.Revision(
                name=f"{name}/revisions/{revision}",
                create_time={"seconds": self._clock},
                conditions=[run_v2.Condition(type_="Ready", state=state)],
            )
            self._revisions.setdefault(name, []).append(made)
            found = self._services.setdefault(
                name,
                run_v2.Service(
                    name=name,
                    uid=str(uuid.uuid4()),
                    labels={"team": "sre"},
                    traffic=[run_v2.TrafficTarget(type_=_LATEST, percent=100)],
                ),
            )
            found.template = run_v2.RevisionTemplate(
                containers=[run_v2.Container(image=f"example/{service}:{revision}")]
            )
            found.latest_created_revision = made.name
            if ready:
                found.latest_ready_revision = made.name
            self._changed(found)
            self._finish(found)

    def set_traffic(
        self,
        service: str,
        traffic: Mapping[str, int],
        *,
        tags: Mapping[str, str] | None = None,
        region: str = REGION,
    ) -> None:
        """Divide the traffic; `LATEST` is whatever is the latest. tags: tag → revision."""
        targets = [
            run_v2.TrafficTarget(type_=_LATEST, percent=percent)
            if revision == "LATEST"
            else run_v2.TrafficTarget(type_=_REVISION, revision=revision, percent=percent)
            for revision, percent in traffic.items()
        ]
        targets += [
            run_v2.TrafficTarget(type_=_REVISION, revision=revision, tag=tag)
            for tag, revision in (tags or {}).items()
        ]
        with self._lock:
            found = self._services[_name(service, region)]
            found.traffic = targets
            self._changed(found)
            self._finish(found)

    def relabel(self, service: str, region: str = REGION) -> None:
        """Someone changes something that is not traffic."""
        with self._lock:
            found = self._services[_name(service, region)]
            found.labels["touched"] = uuid.uuid4().hex
            self._changed(found)
            self._finish(found)

    def busy(self, service: str, region: str = REGION) -> None:
        """Someone's change is being carried out, until `finish`."""
        with self._lock:
            self._changed(self._services[_name(service, region)])

    def finish(self, service: str, *, failed: str = "", region: str = REGION) -> None:
        """The change that goes on has ended. failed: why it could not be carried out."""
        with self._lock:
            self._finish(self._services[_name(service, region)], failed)

    def service(self, service: str, region: str = REGION) -> run_v2.Service:
        """A copy, as it is."""
        with self._lock:
            return run_v2.Service(self._services[_name(service, region)])

    def traffic(self, service: str, region: str = REGION) -> dict[str, int]:
        """What the service is told: revision, or LATEST, → percent."""
        found = self.service(service, region)
        return {
            "LATEST" if one.type_ == _LATEST else one.revision: one.percent
            for one in found.traffic
            if one.percent
        }

    def serving(self, service: str, region: str = REGION) -> dict[str, int]:
        """Which revision gets how many percent now."""
        found = self.service(service, region)
        newest = found.latest_ready_revision.rpartition("/")[2]
        shares: dict[str, int] = {}
        for one in found.traffic_statuses:
            if one.percent:
                revision = one.revision or newest
                shares[revision] = shares.get(revision, 0) + one.percent
        return shares

    # ------------------------------------------------------------ what the API does

    def _get(self, request: run_v2.GetServiceRequest) -> run_v2.Service:
        with self._lock:
            return run_v2.Service(self._known(request.name))

    def _list(self, request: run_v2.ListRevisionsRequest) -> run_v2.ListRevisionsResponse:
        with self._lock:
            self._known(request.parent)
            all_of_them = self._revisions[request.parent]
            first = int(request.page_token or 0)
            last = first + min(request.page_size or 100, 3)  # small pages, so that callers must turn them
            more = str(last) if last < len(all_of_them) else ""
            return run_v2.ListRevisionsResponse(revisions=all_of_them[first:last], next_page_token=more)

    def _update(self, request: run_v2.UpdateServiceRequest) -> operations_pb2.Operation:
        sent = request.service
        with self._lock:
            found = self._known(sent.name)
            if sent.etag and sent.etag != found.etag:
                raise Rejected("ABORTED", f"Conflict for resource '{sent.name}': version was changed")
            names = {one.name.rpartition("/")[2] for one in self._revisions[sent.name]}
            for target in sent.traffic:
                if target.type_ == _REVISION and target.revision not in names:
                    raise Rejected("FAILED_PRECONDITION", f"Revision '{target.revision}' is not found")
            if sent.traffic and sum(target.percent for target in sent.traffic) != 100:
                raise Rejected("INVALID_ARGUMENT", "The sum of the traffic percentages must be 100")
            if self.honours_mask and request.update_mask.paths:
                for path in request.update_mask.paths:
                    setattr(found, path, getattr(sent, path))
            else:
                for path in ("traffic", "template", "labels", "annotations", "description", "ingress"):
                    setattr(found, path, getattr(sent, path))
            self._changed(found)
            if self.progress == 0:
                self._finish(found)
            elif self.progress is not None:
                self.faults.later(self.progress, lambda: self.finish_named(found.name))
            operation = operations_pb2.Operation(name=f"{found.name}/operations/{uuid.uuid4()}")
            operation.metadata.Pack(run_v2.Service.pb(found))
            return operation

    def finish_named(self, name: str) -> None:
        with self._lock:
            self._finish(self._services[name])

    def _known(self, name: str) -> run_v2.Service:
        if name not in self._services:
            raise Rejected("NOT_FOUND", f"Resource '{name}' of kind 'SERVICE' does not exist")
        return self._services[name]

    def _changed(self, found: run_v2.Service) -> None:
        found.generation += 1
        found.reconciling = True
        found.etag = f'"{uuid.uuid4().hex}"'

    def _finish(self, found: run_v2.Service, failed: str = "") -> None:
        state = _State.CONDITION_FAILED if failed else _State.CONDITION_SUCCEEDED
        found.terminal_condition = run_v2.Condition(type_="Ready", state=state, message=failed)
        found.observed_generation = found.generation
        found.reconciling = False
        if not failed:
            found.traffic_statuses = [
                run_v2.TrafficTargetStatus(
                    type_=one.type_, revision=one.revision, percent=one.percent, tag=one.tag
                )
                for one in found.traffic
            ]


def _name(service: str, region: str) -> str:
    return f"projects/{PROJECT}/locations/{region}/services/{service}"
