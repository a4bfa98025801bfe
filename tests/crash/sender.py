"""Posts as Alertmanager does: what was not answered with 2xx is sent again, the same body, until it is."""

from __future__ import annotations

import heapq
import json
import random
import threading
import time
from collections.abc import Sequence

import httpx2

from tests.crash.installation import TOKEN
from tests.crash.load import Problem

_THREADS = 4
_RETRY = 0.3
"""Seconds until what failed is sent again."""


class Sender:
    """Sends problems to any of the daemons, their resolves later, and repeats some.

    Args:
        urls: the daemons.
        rate: new problems per second.
    """

    def __init__(self, urls: Sequence[str], problems: Sequence[Problem], rate: float, seed: int) -> None:
        self.urls = urls
        self.problems = problems
        self.accepted: list[Problem] = []
        self.retries = 0
        self.refused: list[str] = []
        self._luck = random.Random(f"sender {seed}")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._due: list[tuple[float, int, str, tuple[Problem, ...]]] = []
        self._order = 0
        self._under_way = 0
        start, at, left = time.monotonic(), 0.0, list(problems)
        burst = 0
        while left:
            group = tuple(left.pop() for _ in range(min(len(left), self._luck.choice((1, 1, 2, 4)))))
            self._later(start + at, "firing", group)
            if not burst and self._luck.random() < 0.01:
                burst = 60  # a storm: so many at once
            burst = max(0, burst - len(group))
            at += 0 if burst else len(group) / rate
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(_THREADS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        """Whether all that was to be sent was answered with 2xx."""
        with self._lock:
            return not self._due and not self._under_way

    def resolve_all(self) -> None:
        """The trouble is over: what was accepted is resolved, if it is not yet."""
        with self._lock:
            for problem in self.accepted:
                self._later(time.monotonic(), "resolved", (problem,))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _later(self, at: float, status: str, group: tuple[Problem, ...]) -> None:
        self._order += 1
        heapq.heappush(self._due, (at, self._order, status, group))

    def _run(self) -> None:
        with httpx2.Client(timeout=5, headers={"authorization": f"Bearer {TOKEN}"}) as http:
            while not self._stop.is_set():
                with self._lock:
                    due = (
                        heapq.heappop(self._due)
                        if self._due and self._due[0][0] <= time.monotonic()
                        else None
                    )
                    self._under_way += due is not None
                if due is None:
                    self._stop.wait(0.02)
                    continue
                self._send(http, due[2], due[3])
                with self._lock:
                    self._under_way -= 1

    def _send(self, http: httpx2.Client, status: str, group: tuple[Problem, ...]) -> None:
        alerts = [problem.body(status) for problem in group]
        body = json.dumps(
            {"version": "4", "status": status, "alerts": alerts, "receiver": "r", "groupKey": "g"}
        )
        while not self._stop.is_set():
            with self._lock:
                url = self._luck.choice(self.urls)
            try:
                answer = http.post(f"{url}/webhooks/am", content=body)
            except httpx2.TransportError:
                answer = None
            if answer is not None and answer.status_code < 300:
                self._taken(status, group)
                return
            if answer is not None and answer.status_code < 500:
                with self._lock:
                    self.refused.append(f"{answer.status_code} {answer.text[:200]}")
                return
            with self._lock:
                self.retries += 1
            self._stop.wait(_RETRY)

    def _taken(self, status: str, group: tuple[Problem, ...]) -> None:
        now = time.monotonic()
        with self._lock:
            for problem in group:
                if status == "firing" and not problem.accepted:
                    problem.accepted = True
                    self.accepted.append(problem)
                    if problem.resolves is not None:
                        self._later(now + problem.resolves, "resolved", (problem,))
            if (
                status == "firing" and self._luck.random() < 0.15
            ):  # a peer of this Alertmanager, or repeat_interval
                self._later(now + self._luck.uniform(0, 5), "firing", group)
