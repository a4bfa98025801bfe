"""What may be kept of an SQL statement: its shape, never a value that somebody put into it."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<line>--[^\n]*)
    | (?P<block>/\*)
    | (?P<dollar>\$(?P<tag>[A-Za-z_]\w*)?\$)
    | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*(?P<escaped_end>'?))
    | (?P<plain>(?:[bBxXnN]|[uU]&)?'(?P<body>(?:[^']|'')*)(?P<plain_end>'?))
    | (?P<name>"(?:[^"]|"")*"?|[^\W\d]\w*)
    | (?P<place>\$\d+|%s|\?)
    | (?P<number>\.?\d(?:[eE][+-]\d|[\w.])*)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_LIST = re.compile(r"\?(?: ?, ?\?)+")


def shape(text: str, length: int = 200) -> str:
    """The statement without literals and comments, in one line, at most `length` characters.

    `SELECT * FROM users WHERE email = 'a@b.c' -- ticket 7` becomes `SELECT * FROM users WHERE email = ?`.
    Where it cannot be told what is a literal (cut off, or a backslash before a closing quote, which
    means different things under different settings) the rest is left out.
    """
    parts: list[str] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            break
        at = match.end()
        if match["space"] or match["line"]:
            parts.append(" ")
        elif match["block"]:
            at = _after_comment(text, at)
            parts.append(" ")
        elif match["dollar"]:
            end = text.find(match["dollar"], at)
            parts.append("?")
            at = len(text) if end < 0 else end + len(match["dollar"])
        elif match["escaped"] or match["plain"]:
            parts.append("?")
            body = match["body"] or ""
            ended = match["escaped_end"] or match["plain_end"]
            if not ended or "\\'" in body or body.endswith("\\"):
                parts.append(" …")
                break
        elif match["number"]:
            parts.append("?")
        else:
            parts.append(match.group())
    line = _LIST.sub("?, …", " ".join("".join(parts).split()))
    return line if len(line) <= length else line[: length - 1] + "…"


def _after_comment(text: str, at: int) -> int:
    """Where the block comment ends whose opening is before `at`; they nest."""
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if match.group() == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)
