"""What a notifier shows of a message: one title line, a body, and the command to look further.

Labels are hostile input, and they stand in the subject and the body of a message. So control
characters go, and whoever cannot be reached by our words must not be: an `@channel` in a label
pings nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from remediator.model import Message

TITLE_LIMIT = 250
"""Characters; the strictest of the usual services cuts titles at about this length."""
BODY_LIMIT = 3_000
"""Characters; below the limits of chat services, so that they never refuse a whole message."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_MENTION = re.compile(r"@(?=\w)|<(?=[!@#])")
_JOINER = "\u2060"


def title(message: Message) -> str:
    """The subject as one line."""
    return _shortened(_plain(" ".join(message.subject.split())), TITLE_LIMIT)


def body(message: Message) -> str:
    """The body, always ending with the command that shows more."""
    look = command(message)
    text = _plain(message.body.replace("\r\n", "\n")).strip()
    if not look or look in text[:BODY_LIMIT]:
        return _shortened(text, BODY_LIMIT)
    return f"{_shortened(text, BODY_LIMIT)}\nLook: {look}".strip()


def lines(each: Iterable[str]) -> str:
    """A body of these lines. A value that brings line breaks makes no line of its own: a label must not be
    able to say `Acknowledge: …` or `Approve: …` in our name."""
    return "\n".join(" ".join(line.splitlines()) for line in each)


def command(message: Message) -> str:
    """The command line that shows what the message is about; "" where it is about no row."""
    if message.public:
        return ""
    if message.incident is not None:
        return f"remediator incidents show {message.incident}"
    if message.run is not None:
        return f"remediator runs show {message.run}"
    if message.alert is not None:
        return f"remediator alerts explain {message.alert}"
    return ""


def _plain(text: str) -> str:
    # A word joiner after the sign keeps it readable and breaks the mention.
    return _MENTION.sub(lambda found: found[0] + _JOINER, _CONTROL.sub(" ", text))


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
