"""The daemons of a campaign: killed, stopped, continued and started again, and never ended by themselves."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import httpx2

from tests.cli.program import Program
from tests.crash.installation import Installation
from tests.crash.load import FICKLE, fickle, policies

_AFTER_CONTINUE = 3.0
"""Seconds until a process that was continued has surely sent what it was about to send."""


_SLOW = "the store did not answer in time"
"""What a start says that gives up."""


class Fleet:
    """One daemon, or several on one store.

    Args:
        program: `python -m` this, before the path of the settings; None for `remediator serve`.
    """

    def __init__(
        self,
        home: Path,
        count: int,
        store: str | None,
        witness: str,
        program: Sequence[str] = (),
        closed: tuple[str, str] | None = None,
    ) -> None:
        self.replicas: list[Installation] = []
        settings = {
            "engine": {"workers": 12, "action_timeout": "4s", "check_timeout": "4s", "shutdown_grace": "10s"}
        }
        for number in range(count):
            place = home / f"replica{number}"
            place.mkdir(parents=True)
            one = Installation(
                place,
                policies(witness, closed),
                plugins=["tests.crash.plugin"],
                **({"store": {"url": store}} if store else {}),
                **settings,
            )
            if program:
                one.program = (program[0], str(one.config), *program[1:])
            self.replicas.append(one)
        self.kills = self.stops = self.long_stops = self.stopped_in_order = self.paused = self.given_up = 0
        self.ended: list[str] = []
        self.decided = self.changes = self.resumed = 0
        self.twice: list[str] = []
        """answers to a question that had been answered, and were taken"""
        self._witness = witness
        self._due: list[tuple[float, Path, str | None]] = []
        self._resumes: dict[str, float] = {}
        self.unquiet_until = 0.0
        self._stopped: dict[int, float] = {}
        self._leaving: set[int] = set()

    @property
    def urls(self) -> list[str]:
        return [one.url for one in self.replicas]

    def start(self) -> None:
        """Start all, and wait until each is ready."""
        for one in self.replicas:
            one.start(wait=False)
        for one in self.replicas:
            one.until(lambda there=one: self._up(there), "ready", seconds=60)  # type: ignore[misc]

    def _up(self, one: Installation) -> bool:
        self.tick()
        return one._ready()

    def tick(self) -> None:
        """Continue whose pause is over; start what ended by itself, which none should."""
        now = time.monotonic()
        for at, path, text in [one for one in self._due if one[0] <= now]:
            self._due.remove((at, path, text))
            _put(path, text)
        for number, until in list(self._stopped.items()):
            if now >= until:
                self.go_on(number)
        for number, one in enumerate(self.replicas):
            process = one.process
            if process is not None and not process.running:
                if process.returncode == 1 and _SLOW in process.tail(5):
                    self.given_up += 1  # before it was ready: a busy machine; its supervisor starts it again
                elif process.returncode != 0 or number not in self._leaving:
                    self.ended.append(f"replica {number} ended with {process.returncode}: {process.tail(5)}")
                self._start(number)

    def kill(self, number: int) -> None:
        """kill -9, and start it again."""
        self.kills += 1
        self._stopped.pop(number, None)
        self.replicas[number].kill()
        self._start(number)

    def ask_to_stop(self, number: int) -> None:
        """SIGTERM, as an upgrade does; started again once it has ended, which must be in order."""
        one = self.replicas[number]
        process = one.process
        # One that is just starting has nothing to hand over, and is ended by the signal itself.
        if process is not None and number in self.running and number not in self._leaving and one._ready():
            self.stopped_in_order += 1
            self._leaving.add(number)
            process.signal(signal.SIGTERM)

    def pause(self, luck: random.Random) -> None:
        """A person pauses the daemon, a policy or a target for a moment, and may think better of it."""
        one = self.any_ready()
        scope = luck.choice(("", "", "policy:push", "policy:put", "target:works:hot1"))
        seconds, sooner = luck.choice((2, 6)), luck.random() < 0.5
        if one is None:
            return
        said = {"scope": scope, "reason": "a drill", "expires": f"{seconds}s"}
        with contextlib.suppress(httpx2.TransportError):
            paused = one.http.post("/api/v1/control/pause", json=said).status_code == 200
            self.paused += paused
            if paused and sooner:
                self._resumes[scope] = time.monotonic() + seconds / 2

    def people(self, luck: random.Random) -> None:
        """People answer what is asked, some of it twice, and lift pauses."""
        one = self.any_ready()
        if one is None:
            return
        with contextlib.suppress(httpx2.TransportError):
            for scope, at in list(self._resumes.items()):
                if time.monotonic() >= at:
                    said = {"scope": scope, "reason": "fine again"}
                    if one.http.post("/api/v1/control/resume", json=said).status_code == 200:
                        self.resumed += 1
                        del self._resumes[scope]
            for asked in one.http.get("/api/v1/approvals", params={"open": "true"}).json()["items"]:
                word = "approve" if luck.random() < 0.8 else "reject"
                said = {"comment": "seen", "approval": asked["id"]}
                taken = one.http.post(f"/api/v1/runs/{asked['run']}/{word}", json=said).status_code
                self.decided += taken == 200
                if taken == 200 and luck.random() < 0.3:
                    again = one.http.post(f"/api/v1/runs/{asked['run']}/approve", json=said).status_code
                    if again == 200:
                        self.twice.append(f"approval {asked['id']} was answered again with 200")

    def change(self, luck: random.Random) -> None:
        """Somebody merges a change of a policy; the directories of the replicas get it one after another."""
        self.changes += 1
        text = fickle(self._witness, luck.choice(("enforce", "enforce", "observe", "")))
        at = time.monotonic()
        for one in luck.sample(self.replicas, len(self.replicas)):
            self._due.append((at, one.home / "policies" / f"{FICKLE}.yaml", text))
            at += luck.uniform(0, 3)

    def look_beside(self, number: int) -> None:
        """A person asks the command line, which opens the store beside the daemon. It may find it locked
        (a daemon that was just killed), and must not harm it."""
        one = self.replicas[number]
        Program(one.home, {})("runs", "list", "--limit", 3, "--config", str(one.config), timeout=180)

    def _start(self, number: int) -> None:
        self._leaving.discard(number)
        self.replicas[number].start(wait=False)

    def halt(self, number: int, seconds: float, long: bool = False) -> None:
        """SIGSTOP, for so long."""
        process = self.replicas[number].process
        if process is None or number in self._stopped:
            return
        process.signal(signal.SIGSTOP)
        self.stops += 1
        self.long_stops += long
        self._stopped[number] = time.monotonic() + seconds

    def go_on(self, number: int) -> None:
        """SIGCONT."""
        self._stopped.pop(number, None)
        process = self.replicas[number].process
        if process is not None:
            process.signal(signal.SIGCONT)
        self.unquiet_until = time.monotonic() + _AFTER_CONTINUE

    @property
    def quiet(self) -> bool:
        """Whether no process is stopped, nor has been just now: a person may then judge what was done."""
        return not self._stopped and time.monotonic() > self.unquiet_until

    @property
    def running(self) -> list[int]:
        return [number for number in range(len(self.replicas)) if number not in self._stopped]

    def any_ready(self) -> Installation | None:
        """A daemon that answers, if there is one."""
        for number in self.running:
            if self.replicas[number]._ready():
                return self.replicas[number]
        return None

    def clear_quarantines(self) -> int:
        """What a person does who has looked; returns how many targets were freed."""
        one = self.any_ready()
        if one is None or not self.quiet:
            return 0
        cleared = 0
        with contextlib.suppress(httpx2.TransportError):
            for target in one.http.get("/api/v1/targets").json()["items"]:
                if target["quarantine"]:
                    said = {"target": target["key"], "reason": "looked at it"}
                    cleared += one.http.post("/api/v1/targets/clear", json=said).status_code == 200
        return cleared

    def close(self) -> None:
        for one in self.replicas:
            one.close()


def _put(path: Path, text: str | None) -> None:
    """Replace a file as a person's tools do, at once; None deletes it."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


class Chaos:
    """What happens to a fleet, by the seed: mostly kills; stops, short and longer than a lease; restarts in
    order; and a person who pauses the daemon for a moment, or clears a target in doubt.

    Args:
        kills: how many.
        long: how many stops longer than `lease` seconds.
        pace: seconds between two events, on average.
        calling: the processes that are in a call now: the long stops hit one of those, if they can.
    """

    def __init__(
        self,
        fleet: Fleet,
        seed: int,
        kills: int,
        long: int,
        lease: float,
        pace: float,
        calling: Callable[[], Iterable[int]],
    ) -> None:
        luck = random.Random(f"chaos {seed}")
        events = ["kill"] * kills + ["stop"] * (kills // 3) + ["long"] * long
        events += ["term", "pause", "pause", "look"] * (kills // 8) + ["change"] * max(1, kills // 4)
        luck.shuffle(events)
        self.left = events
        self.cleared = 0
        self._fleet = fleet
        self._luck = luck
        self.people = random.Random(f"people {seed}")
        self._lease = lease
        self._pace = pace
        self._calling = calling
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._over = threading.Event()

    def start(self) -> None:
        self._thread.start()

    @property
    def done(self) -> bool:
        return self._over.is_set()

    def _once_ready(self, what: Callable[[], None]) -> None:
        """Wait a while for a daemon that answers; between two kills there may be none."""
        end = time.monotonic() + 5
        while time.monotonic() < end and self._fleet.any_ready() is None:
            self._fleet.tick()
            time.sleep(0.05)
        what()

    def _in_a_call(self, otherwise: int) -> int:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            pids = set(self._calling())
            for number in self._fleet.running:
                process = self._fleet.replicas[number].process
                if process is not None and process.pid in pids:
                    return number
            self._fleet.tick()
            time.sleep(0.005)
        return otherwise

    def _play(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - a thread that ends unseen would be waited for for ever
            self._fleet.ended.append(f"the campaign itself broke off: {type(error).__name__}: {error}")
        finally:
            self._over.set()

    def _run(self) -> None:
        fleet, luck = self._fleet, self._luck
        look, answer = time.monotonic() + 5, time.monotonic()
        while self.left:
            until = time.monotonic() + luck.uniform(0.3, 1.7) * self._pace
            while time.monotonic() < until:
                fleet.tick()
                if time.monotonic() > look:
                    self.cleared += fleet.clear_quarantines()
                    look = time.monotonic() + 5
                if time.monotonic() > answer:
                    fleet.people(self.people)
                    answer = time.monotonic() + 1
                time.sleep(0.05)
            event, number = self.left.pop(), luck.randrange(len(fleet.replicas))
            if event == "kill":
                fleet.kill(number)
            elif event == "stop":
                fleet.halt(number, luck.uniform(0.1, 2.5))
            elif event == "term":
                self._once_ready(lambda one=number: fleet.ask_to_stop(one))  # type: ignore[misc]
            elif event == "look":
                fleet.look_beside(number)
            elif event == "pause":
                self._once_ready(lambda: fleet.pause(luck))
            elif event == "change":
                fleet.change(luck)
            else:
                fleet.halt(self._in_a_call(number), self._lease + luck.uniform(1, 5), long=True)
        while fleet._stopped or fleet._leaving:
            fleet.tick()
            time.sleep(0.05)
