"""The one place that names concrete classes and puts them together."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Mapping, Sequence

import structlog

from remediator import failpoint, metrics
from remediator.catalogue import PACKAGES, scan
from remediator.clients.connections import CallContext, Connections
from remediator.clients.redis import RedisClient
from remediator.clock import SteadyClock, SystemClock
from remediator.contracts import Catalogue, Clock, Context, Receiver, Store
from remediator.engine.case import Rules, Tools
from remediator.engine.daemon import Daemon
from remediator.engine.execute import Execute
from remediator.engine.incident.telling import Telling
from remediator.engine.incident.watch import Incidents
from remediator.engine.link import Links
from remediator.engine.manual import Manual
from remediator.engine.policies import Compile, Policies
from remediator.engine.threads import Threads
from remediator.engine.worker import Worker
from remediator.errors import ActionError, ConfigurationError, NotificationError
from remediator.live.announcing import announcing
from remediator.live.exchange import Exchange
from remediator.live.flood import Flood
from remediator.live.hub import Hub
from remediator.model import JUMP, MANUAL, Episode, Instant
from remediator.notify.apprise import AppriseNotifier
from remediator.notify.audience import Routing
from remediator.notify.direct import StorePager
from remediator.notify.outbox import Drain
from remediator.policy import glob
from remediator.policy.cache import Cache
from remediator.policy.git import git_revision
from remediator.policy.set import PolicySet, compile_set
from remediator.policy.vocabulary import Vocabulary
from remediator.receivers.alertmanager import Alertmanager
from remediator.receivers.cloud_monitoring import CloudMonitoring
from remediator.settings import Settings
from remediator.settings.values import suggest
from remediator.store import open_store
from remediator.store.limits import Limits

log = structlog.get_logger()


@functools.cache
def catalogue(plugins: tuple[str, ...] = ()) -> Catalogue:
    """Every action and check of this version, and of the packages that settings name.

    Raises:
        ConfigurationError: a module cannot be imported, or two things have one name.
    """
    return scan((*PACKAGES, *plugins))


def receivers(settings: Settings) -> dict[str, Receiver]:
    """A receiver for each kind of sender, and the one that reads back manual runs."""
    senders = settings.senders
    return {
        "alertmanager": Alertmanager(senders),
        "cloud_monitoring": CloudMonitoring(senders),
        MANUAL: Manual(),
    }


def vocabulary(settings: Settings) -> Vocabulary:
    """The names that policies may use."""
    return Vocabulary(
        catalogue=catalogue(settings.plugins),
        connections={name: connection.kind for name, connection in settings.connections.items()},
        senders=frozenset(settings.senders),
        notifiers=frozenset(settings.notifiers),
    )


def store(settings: Settings, clock: Clock | None = None, read_only: bool = False) -> Store:
    """The store of settings."""
    key = settings.audit.key
    return open_store(
        settings.store.url,
        clock or SystemClock(),
        receivers=receivers(settings),
        read_only=read_only,
        seal_key=key.get_secret_value().encode() if key is not None else None,
        # A little longer than the webhook waits: it is the webhook that says 503.
        limits=Limits(intake=settings.server.store_timeout / 1000 + 0.2),
    )


def notifiers(settings: Settings) -> dict[str, AppriseNotifier]:
    """The notifiers of settings; the log is told besides, always."""
    return {
        name: AppriseNotifier(name, notifier.url.get_secret_value())
        for name, notifier in settings.notifiers.items()
    }


def compiler(settings: Settings) -> Compile:
    """Policy texts → set, with the names of these settings, and what was validated before kept
    beside the store's file."""
    words = vocabulary(settings)
    path = settings.store.path
    cache = Cache(path.parent / "policy-cache") if path is not None else None

    def compile(files: Mapping[str, str]) -> PolicySet:
        return compile_set(files, words, git=git_revision(settings.policies.dir), cache=cache)

    return compile


def recipients(policies: Policies) -> Callable[[str], Sequence[str]]:
    """Who a chain tells first."""

    def told(chain: str) -> Sequence[str]:
        current = policies.current
        steps = current.escalation.chains.get(chain, ()) if current is not None else ()
        return steps[0].notify if steps else ()

    return told


def exchange(settings: Settings, flood: Flood, hub: Hub, clock: Clock, replica: str) -> Exchange | None:
    """What tells the other replicas through Redis, where settings have one."""
    if settings.redis.url is None:
        return None
    return Exchange(RedisClient(settings.redis.url), flood, hub, clock, replica, settings.redis.prefix)


def telling(settings: Settings) -> Telling:
    """How people are told, as the settings say."""
    said = settings.notifications
    return Telling(
        routing=Routing(
            audiences=settings.audiences.named(),
            routes={"declared": said.declared, "updated": said.updated, "resolved": said.resolved},
            notifiers=tuple(settings.notifiers),
        ),
        every=said.status_every,
        channel=said.channel,
        war_room=said.war_room,
        public_names=tuple(said.public_names.items()),
    )


def build(
    settings: Settings,
    clock: Clock | None = None,
    make_store: Callable[[Settings, Clock | None], Store] = store,
) -> Daemon:
    """A daemon, not yet started.

    Args:
        clock: for tests; the system's otherwise.
        make_store: for tests, which put a store that misbehaves around the real one.

    Raises:
        ConfigurationError: a part cannot be made from these settings.
    """
    if settings.failpoint:
        failpoint.arm(settings.failpoint)
    metrics.declare(senders=settings.senders, notifiers=settings.notifiers)
    known = catalogue(settings.plugins)
    _must_name_actions(settings.approvals.actions, known)
    # PostgreSQL tells its own time; only where time is ours can a jump be held back.
    steady = SteadyClock(JUMP) if clock is None and settings.store.path is not None else None
    hub = Hub()
    durable = announcing(make_store(settings, clock or steady), hub)
    connections = Connections(settings.connections)

    def context(now: Instant, episode: Episode | None) -> Context:
        return CallContext(connections, now, episode)

    replica = settings.engine.name or socket.gethostname()
    policies = Policies(durable, known, compiler(settings), settings.policies.dir, replica=replica)
    execute = Execute(
        contexts=context,
        threads=Threads(),
        read_timeout=settings.engine.check_timeout / 1000,
        apply_timeout=settings.engine.action_timeout / 1000,
    )
    worker_name = f"{socket.gethostname()}:{os.getpid()}"
    tools = Tools(durable, known, execute, Rules(settings.approvals, Links.of(settings)))
    wall = clock or SystemClock()
    limited = {name: sender.limit for name, sender in settings.senders.items() if sender.limit is not None}
    flood = Flood(limited, wall)
    worker = Worker(worker_name, tools, policies, most=settings.engine.workers)
    pagers = notifiers(settings)
    _must_be_understood(pagers)
    said = telling(settings)
    drain = Drain(
        durable,
        pagers,
        recipients(policies),
        outside=settings.audiences.customers,
        failing_after=settings.notifications.failing_after,
    )

    def reach(name: str) -> str:
        return connections.open(name).identity()

    async def warm() -> None:
        """Reach each PostgreSQL once: the connection kept from it is what ends queries when the
        server has no free slot left. One that cannot be reached now is none of start-up's business."""
        for name, connection in settings.connections.items():
            if connection.kind == "postgres":
                try:
                    await execute.threads.call(functools.partial(reach, name), 10)
                except (ActionError, TimeoutError) as error:
                    log.warning("connection.not_reached", connection=name, error=str(error))

    return Daemon(
        settings=settings,
        store=durable,
        receivers=receivers(settings),
        catalogue=known,
        policies=policies,
        worker=worker,
        drain=drain.run,
        incidents=Incidents(durable, policies, said, told=drain.wake),
        page=StorePager(
            durable,
            pagers,
            said.routing.split(settings.audiences.on_call).internal or said.routing.ourselves,
            worker_name,
            settings.notifications.page_without_store,
            settings.notifications.page_again,
        ),
        warm=warm,
        close=connections.close,
        flood=flood,
        hub=hub,
        exchange=exchange(settings, flood, hub, wall, worker_name),
        clock=steady,
    )


def _must_be_understood(pagers: Mapping[str, AppriseNotifier]) -> None:
    """A pager whose address is wrong would be noticed when it is needed.

    Raises:
        ConfigurationError: Apprise cannot read the address of one.
    """
    for name, pager in pagers.items():
        try:
            pager.check()
        except NotificationError as error:
            raise ConfigurationError(f"notifiers.{name}.url: {error}") from None


def _must_name_actions(levels: Mapping[str, int], known: Catalogue) -> None:
    """A name with a typo would leave the action it means to a lower level, and nobody would notice.

    Raises:
        ConfigurationError: no action has such a name.
    """
    names = [action.name for action in known.actions()]
    for pattern in levels:
        if not any(glob.matches(pattern, name) for name in names):
            raise ConfigurationError(
                f"approvals.actions: no action fits {pattern[:100]!r}; {suggest(pattern[:100], names)}"
            )
