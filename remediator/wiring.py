"""The one place that names concrete classes and puts them together."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Mapping

from remediator import failpoint, metrics
from remediator.catalogue import scan
from remediator.clients.connections import CallContext, Connections
from remediator.clock import SystemClock
from remediator.contracts import Catalogue, Clock, Context, Notifier, Receiver, Store
from remediator.engine.case import Tools
from remediator.engine.daemon import MANUAL, Daemon, Manual
from remediator.engine.execute import Execute
from remediator.engine.policies import Policies
from remediator.engine.threads import Threads
from remediator.engine.worker import Worker
from remediator.model import Episode, Instant
from remediator.notify.apprise import AppriseNotifier
from remediator.notify.log import LogNotifier
from remediator.notify.outbox import Drain
from remediator.policy.set import PolicySet, Vocabulary, compile_set
from remediator.receivers.alertmanager import Alertmanager
from remediator.receivers.cloud_monitoring import CloudMonitoring
from remediator.settings import Settings
from remediator.store import open_store


@functools.cache
def catalogue() -> Catalogue:
    """Every action and check of this version."""
    return scan()


def receivers(settings: Settings) -> dict[str, Receiver]:
    """A receiver for each kind of sender, and the one that reads back manual runs."""
    senders = settings.senders
    return {
        "alertmanager": Alertmanager(senders),
        "cloud_monitoring": CloudMonitoring(senders),
        MANUAL: Manual(),
    }


def vocabulary(settings: Settings, known: Catalogue | None = None) -> Vocabulary:
    """The names that policies may use."""
    return Vocabulary(
        catalogue=known or catalogue(),
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
    )


def notifiers(settings: Settings) -> dict[str, Notifier]:
    """The notifiers of settings; the log is always one."""
    found: dict[str, Notifier] = {"log": LogNotifier()}
    for name, notifier in settings.notifiers.items():
        found[name] = AppriseNotifier(name, notifier.url)
    return found


def build(settings: Settings, *, clock: Clock | None = None, known: Catalogue | None = None) -> Daemon:
    """A daemon, not yet started.

    Args:
        clock: for tests; the system's otherwise.
        known: another catalogue than the shipped one (benchmarks).
    """
    if settings.failpoint:
        failpoint.arm(settings.failpoint)
    metrics.declare(senders=settings.senders, notifiers=settings.notifiers)
    known = known or catalogue()
    durable = store(settings, clock)
    connections = Connections(settings.connections)

    def context(now: Instant, episode: Episode | None) -> Context:
        return CallContext(connections, now, episode)

    words = vocabulary(settings, known)

    def compile(files: Mapping[str, str]) -> PolicySet:
        return compile_set(files, words)

    policies = Policies(durable, known, compile, settings.policies.dir)
    execute = Execute(
        contexts=context,
        threads=Threads(),
        read_timeout=settings.engine.check_timeout / 1000,
        apply_timeout=settings.engine.action_timeout / 1000,
    )
    name = f"{socket.gethostname()}:{os.getpid()}"
    worker = Worker(name, Tools(durable, known, execute), policies, most=settings.engine.workers)
    drain = Drain(durable, notifiers(settings), policies)
    return Daemon(
        settings=settings,
        store=durable,
        receivers=receivers(settings),
        catalogue=known,
        policies=policies,
        worker=worker,
        drain=drain.run,
        close=connections.close,
    )
