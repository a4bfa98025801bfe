"""One replica: the real daemon, assembled as `wiring` does, in a process that can die."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from remediator.contracts import Delivery, Parsed, Store
from remediator.engine.case import Tools
from remediator.engine.daemon import Daemon
from remediator.engine.execute import Execute
from remediator.engine.incident.telling import Telling
from remediator.engine.incident.watch import Incidents
from remediator.engine.manual import Manual
from remediator.engine.policies import Policies
from remediator.engine.worker import Worker
from remediator.errors import ConfigurationError, NotificationError, StoreError
from remediator.model import MANUAL, Alert, Instant, Message, Millis
from remediator.notify.audience import Routing
from remediator.notify.outbox import Drain
from remediator.settings.load import assemble
from tests.simulation.catalogue import Given
from tests.simulation.link import Link
from tests.simulation.provider import Wire

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

PACE = 30.0
"""Upkeep is this many times slower than in a daemon: most of it only reads, and would be all there is."""
SETTINGS = "policies: {dir: policies, reload: 25s}\nengine: {shutdown_grace: 2s}\n"


@cache
def settings() -> Any:
    return assemble(SETTINGS, "remediator.yaml", {}, Path("/nowhere"))


class Told:
    """Reads back what the senders here delivered."""

    kind = "told"

    def parse(self, sender: str, body: bytes, now: Instant) -> Parsed:
        raise NotImplementedError

    def alert(self, sender: str, body: bytes, position: int, now: Instant) -> Alert:
        return msgspec.json.decode(body, type=list[Alert])[position]


class Notifier:
    """Tells the world of people; may fail."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.name = name
        self._simulation = simulation

    async def send(self, message: Message) -> None:
        fault = self._simulation.fault("notify")
        if fault is not None and fault.what == "fail":
            raise NotificationError(f"notifier {self.name}: not delivered")
        if fault is not None:
            await asyncio.sleep(fault.amount * (30 if fault.what == "hang" else 3))
            if fault.what == "hang":
                raise NotificationError(f"notifier {self.name}: no answer")
        self._simulation.oracle.told(self.name, message)


class Replica:
    """A place where one process after another runs."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.name = name
        self.lives = 0
        self.files: dict[str, str] = dict(simulation.rules.files)
        self.daemon: Daemon | None = None
        self.up = False
        self.boot()

    @property
    def running(self) -> Daemon:
        """The daemon of a process that is up."""
        assert self.daemon is not None
        return self.daemon

    def boot(self) -> None:
        """Start a process."""
        simulation = self.simulation
        self.lives += 1
        self.up = False
        self.host = host = simulation.loop.host(f"{self.name}.{self.lives}")
        if simulation.scenario.alone:
            simulation.reclaim()
        link = cast(Store, Link(simulation, host))
        policies = Policies(
            link, simulation.known, simulation.compile, Path("policies"), read=lambda _: dict(self.files)
        )
        execute = Execute(
            Given, Wire(simulation), read_timeout=10.0, apply_timeout=25.0, **simulation.execute_options
        )
        worker = Worker(
            host.name,
            Tools(link, simulation.known, execute, nonce=simulation.nonce),
            policies,
            most=8,
            idle=40.0,
        )
        notifiers = {name: Notifier(simulation, name) for name in ("primary", "secondary")}
        telling = Telling(Routing(notifiers=("primary", "secondary")))
        drain = Drain(link, notifiers, lambda _chain: ("primary",), idle=Millis(30_000))

        async def warm() -> None:
            """Nothing to reach."""

        self.daemon = Daemon(
            settings=settings(),
            store=link,
            receivers={"told": Told(), MANUAL: Manual()},
            catalogue=simulation.known,
            policies=policies,
            worker=worker,
            drain=drain.run,
            incidents=Incidents(link, policies, telling, told=drain.wake, idle=Millis(40_000)),
            page=warm,
            warm=warm,
            close=lambda: None,
            pace=PACE,
            nonce=simulation.nonce,
            loud=simulation.loop.fault,
        )
        simulation.loop.spawn(host, self._start(self.daemon), "start")

    async def _start(self, daemon: Daemon) -> None:
        try:
            await daemon.start()
        except (ConfigurationError, StoreError) as error:
            self.simulation.say(f"{self.host.name} cannot start: {error}")
            self.simulation.after(5.0, self.reboot, self.lives)
            return
        self.up = True

    def reboot(self, life: int) -> None:
        """Start anew, unless somebody has."""
        if life == self.lives:
            self.host.kill()
            self.boot()

    def kill(self, seconds: float) -> None:
        """kill -9, and a new process after that many seconds."""
        self.up = False
        self.host.kill()
        self.simulation.after(seconds, self.reboot, self.lives)

    def freeze(self, seconds: float) -> None:
        """kill -STOP, and -CONT after that many seconds."""
        host = self.host
        host.frozen = True
        self.simulation.after(seconds, lambda: setattr(host, "frozen", False))

    def stop(self, seconds: float) -> None:
        """An orderly end, and a new process after that many seconds."""
        daemon, life = self.daemon, self.lives
        if daemon is None or not self.up:
            return
        self.up = False

        async def end() -> None:
            await daemon.stop()
            self.simulation.after(seconds, self.reboot, life)

        self.simulation.loop.spawn(self.host, end(), "stop")
        self.simulation.after(60.0 + seconds, self.reboot, life)

    async def take(self, alert: Alert) -> bool:
        """What the web server does with a body; whether it was answered with 2xx."""
        daemon = self.daemon
        if daemon is None or not self.up:
            return False
        body = msgspec.json.encode([alert])
        now = await daemon.store.now()
        delivery = Delivery(
            sender="am",
            kind="told",
            body=body,
            parsed=Parsed(alerts=((alert, self.simulation.digest(body)),)),
            revision=daemon.policies.hash,
            received_at=now,
        )
        receipt = await daemon.store.accept(delivery, daemon.policies.matching(), daemon.claimant)
        daemon.take(receipt.claimed)
        daemon.wake()
        self.simulation.oracle.answered(alert, receipt, daemon.policies.hash)
        return True
