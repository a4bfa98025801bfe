"""Notifications through Apprise (https://github.com/caronc/apprise): mail, chat, pagers, webhooks.

Apprise is large: it is imported when the first address is read, at start where settings name a notifier.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote

from remediator.errors import NotificationError
from remediator.model import Message, Severity
from remediator.notify import text

TIMEOUT = 10.0
"""Seconds for one message, the wait for a free thread included."""
_GRAVE = {Severity.P1: "failure", Severity.P2: "failure", Severity.P3: "warning", Severity.P4: "info"}
_SECRET = re.compile(r"[^/?&=:@#;,]{4,}")
_ADDRESS = re.compile(r"([A-Za-z0-9+.-]+)://\S+")


class AppriseNotifier:
    """Sends to one Apprise URL.

    Args:
        name: as in settings, under `notifiers`.
        url: the Apprise URL; it holds credentials, so it appears in no log, error or repr.
        timeout: seconds.
    """

    def __init__(self, name: str, url: str, timeout: float = TIMEOUT) -> None:
        self.name = name
        self._url = url
        self._timeout = timeout
        self._plugin: Any = None
        self._threads = ThreadPoolExecutor(4, thread_name_prefix=f"notify-{name}")

    def __repr__(self) -> str:
        return f"AppriseNotifier({self.name!r})"

    async def send(self, message: Message) -> None:
        """Deliver one message.

        Raises:
            NotificationError: the service did not take it, or did not answer in time.
        """
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._threads, self._notify, message)
        try:
            async with asyncio.timeout(self._timeout):
                await work
        except TimeoutError:
            raise NotificationError(
                f"notifier {self.name}: no answer within {self._timeout:g} s; see whether the service is up"
            ) from None

    def check(self) -> None:
        """Load the URL without sending anything.

        Raises:
            NotificationError: Apprise does not understand it.
        """
        if self._plugin is not None:
            return
        with warnings.catch_warnings(), _Said() as said:
            # Apprise loads all its plugins here; one uses a module that Python 3.13 has dropped.
            warnings.simplefilter("ignore", DeprecationWarning)
            import apprise

            plugin = apprise.Apprise.instantiate(self._url, suppress_exceptions=True)
        if plugin is None:
            scheme = self._url.partition("://")[0] if "://" in self._url else "no scheme"
            raise NotificationError(
                f"notifier {self.name}: Apprise does not understand its URL ({scheme[:20]}://***)"
                f"{self._because(said)}; see https://github.com/caronc/apprise/wiki for the form"
            )
        plugin.socket_connect_timeout = self._timeout / 2
        plugin.socket_read_timeout = self._timeout / 2
        self._plugin = plugin

    def _notify(self, message: Message) -> None:
        self.check()
        with _Said() as said:
            taken = self._plugin.notify(
                title=text.title(message),
                body=text.body(message),
                body_format="text",
                notify_type=_GRAVE[message.severity],
            )
        if not taken:
            raise NotificationError(f"notifier {self.name}: not delivered{self._because(said)}")

    def _because(self, said: _Said) -> str:
        """What Apprise logged, without any word of the URL beyond its scheme. Addresses go as a whole: a
        word of one may be a secret although it is short."""
        if not said.lines:
            return ""
        found = _ADDRESS.sub(r"\1://***", "; ".join(said.lines)[:500])
        secret = self._url.partition("://")[2]
        words = {*_SECRET.findall(secret), *_SECRET.findall(unquote(secret))}
        for word in sorted(words, key=len, reverse=True):
            found = found.replace(word, "***")
        return f": {found}"


class _Said(logging.Handler):
    """Keeps what Apprise logs in this thread, and keeps it out of every other log: Apprise's own
    lines may quote addresses with credentials in them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())

    def __enter__(self) -> _Said:
        logger = logging.getLogger("apprise")
        logger.propagate = False
        logger.setLevel(logging.WARNING)
        # At debug level it writes the path of every request, and a web hook's path is its secret.
        logging.getLogger("urllib3").setLevel(logging.INFO)
        logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)
