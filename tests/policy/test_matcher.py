"""Label matchers: Alertmanager's grammar, checked against Alertmanager's own parser and matching."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.policy.matcher import Matcher, parse
from tests.servers.process import Missing


@pytest.mark.parametrize(
    ("text", "matchers"),
    [
        ("foo=bar", [("foo", "=", "bar")]),
        ('foo="bar"', [("foo", "=", "bar")]),
        ("foo!=bar", [("foo", "!=", "bar")]),
        ('foo =~ "bar.*"', [("foo", "=~", "bar.*")]),
        ("foo!~bar.*", [("foo", "!~", "bar.*")]),
        ("{foo=bar}", [("foo", "=", "bar")]),
        ('{foo = "bar", dings != "bums", }', [("foo", "=", "bar"), ("dings", "!=", "bums")]),
        ('foo="bar,quux", job="job1"', [("foo", "=", "bar,quux"), ("job", "=", "job1")]),
        ("job=", [("job", "=", "")]),
        ("tricky=~~~", [("tricky", "=~", "~~")]),
        (r"trickier==\\=\=\"", [("trickier", "=", r'=\=\="')]),
        (r'q="She said: \"Hi, ladies!\""', [("q", "=", 'She said: "Hi, ladies!"')]),
        (r'a="line\nbreak" ', [("a", "=", "line\nbreak")]),
        (r'a="c:\temp"', [("a", "=", r"c:\temp")]),
        ("{foo=bar}}", [("foo", "=", "bar}")]),
        ("foo='", [("foo", "=", "'")]),
        ("Ünïcode=x", [("Ünïcode", "=", "x")]),
        ('"service.name"="checkout"', [("service.name", "=", "checkout")]),
        (r'"a\"b" =~ "x.+"', [('a"b', "=~", "x.+")]),
        ("service.name=checkout", [("service.name", "=", "checkout")]),
    ],
)
def test_reads(text: str, matchers: list[tuple[str, str, str]]) -> None:
    assert parse(text) == tuple(Matcher(*matcher) for matcher in matchers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "without a matcher"),
        ("{}", "without a matcher"),
        ("{,}", "is not a matcher"),
        ("foo", "is not a matcher"),
        ("=bar", "is not a matcher"),
        ('job="value', 'no closing "'),
        ('job=value"', 'has a " inside'),
        ('a=foo"bar', 'has a " inside'),
        ('foo="a" b', 'has a " inside'),
        ("foo=a{1,2}", "brace on one side"),
        ('foo=~"invalid[regexp"', "not a regular expression"),
        (r"foo=~a\C", "not allowed"),
        ('foo=~"a{1001}"', "not a regular expression"),
        ("foo=~a{2}", "brace on one side"),
        ("{foo=}b", "brace on one side"),
        ("foo=~(?=a)", "not a regular expression"),
        ("foo=" + "a" * 5000, "at most 4096"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parse(text)


@pytest.mark.parametrize(
    ("text", "labels", "holds"),
    [
        ("a=", {}, True),
        ("a=", {"a": "x"}, False),
        ("a!=x", {}, True),
        ("a=~.*", {}, True),
        ("a=~.+", {}, False),
        ("a!~.+", {}, True),
        ("a=~x", {"a": "xx"}, False),
        ("a=~x|xx", {"a": "xx"}, True),
        ("a=~a.c", {"a": "a\nc"}, False),
        ("a=~(?s)a.c", {"a": "a\nc"}, True),
        ("a=~(?i)abc", {"a": "ABC"}, True),
        ("a=~é.", {"a": "éü"}, True),
        ("a=~.", {"a": "\ud800"}, True),
    ],
)
def test_holds(text: str, labels: dict[str, str], holds: bool) -> None:
    assert all(matcher.matches(labels) for matcher in parse(text)) is holds


def test_a_backtracking_bomb_is_answered_at_once() -> None:
    (matcher,) = parse("a=~(a|aa)+b")
    assert not matcher.holds("a" * 100_000)


_VALUES = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,9}", fullmatch=True), st.sampled_from(["=", "!="]), _VALUES)
def test_text_and_back(name: str, op: str, value: str) -> None:
    matcher = Matcher(name, op, value)
    assert parse(str(matcher)) == (matcher,)


@given(st.lists(st.from_regex(r"[a-z0-9-]{1,4}", fullmatch=True), min_size=1, max_size=4), _VALUES)
def test_alternatives_are_the_values_it_holds_for(values: list[str], other: str) -> None:
    (matcher,) = parse(f'a=~"{"|".join(values)}"')
    assert set(matcher.literals()) == set(values)
    assert all(matcher.holds(value) for value in values)
    assert matcher.holds(other) is (other in values)


_PIECES = [
    "a",
    "b",
    "ab",
    "a.",
    ".*",
    ".+",
    "a|b",
    "(a|b)+",
    "[ab]",
    "[^a]",
    "a?",
    "",
    "é",
    "A",
    r"\.",
    r"\d+",
    " ",
    "a b",
]
_RAW = [
    *_PIECES,
    '"a"',
    '"a,b"',
    '"a\\"b"',
    '"a\\nb"',
    '"a\\\\"',
    "a\\",
    '"',
    'a"',
    '"a',
    "}",
    "{a}",
    "~",
    "=",
    "a,b=b",
    "'",
]


def _entries(source: random.Random, count: int) -> list[str]:
    entries = []
    for _ in range(count):
        name = source.choice(["foo", "bar", "foo", "b_1", "a:b", "1a", "a-b", ""])
        space = source.choice(["", "", " ", "\t"])
        value = source.choice(_RAW) + source.choice(["", "", source.choice(_PIECES)])
        if source.random() < 0.3:
            value = json.dumps(source.choice(_PIECES) + source.choice(_PIECES), ensure_ascii=False)
        entry = f"{name}{space}{source.choice(['=', '!=', '=~', '!~'])}{space}{value}{space}"
        entries.append(source.choice([entry, entry, "{" + entry + "}", entry + ",bar!=zzz", entry + ","]))
    return entries


def _amtool(directory: Path, matchers: list[str], labels: dict[str, str]) -> subprocess.CompletedProcess[str]:
    receivers = [{"name": "none"}, *({"name": f"r{number}"} for number in range(len(matchers)))]
    routes = [
        {"receiver": f"r{number}", "matchers": [entry], "continue": True}
        for number, entry in enumerate(matchers)
    ]
    config = directory / "alertmanager.yml"
    config.write_text(json.dumps({"route": {"receiver": "none", "routes": routes}, "receivers": receivers}))
    arguments = [f'{name}="{value}"' for name, value in labels.items()]
    return subprocess.run(
        ["amtool", "config", "routes", "test", f"--config.file={config}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def _needs_amtool() -> None:
    if shutil.which("amtool") is None:
        raise Missing("amtool is not on the PATH; apt-get install prometheus-alertmanager")


def test_amtool_refuses_what_we_refuse(tmp_path: Path) -> None:
    """One entry at a time. We also read the newer grammar, which the installed amtool may not, and
    refuse a brace on one side, which it drops."""
    _needs_amtool()
    source = random.Random(20260101)
    entries = list(dict.fromkeys(_entries(source, 400)))[:120]
    differing = []
    for entry in entries:
        theirs = _amtool(tmp_path, [entry], {"foo": "a"}).returncode == 0
        try:
            parse(entry)
            ours = True
        except ValueError:
            ours = False
        one_sided = entry.strip().startswith("{") is not entry.strip().endswith("}")
        if theirs and not ours and entry.strip("{} ,") and not one_sided:
            differing.append(entry)
    assert differing == []


def test_routes_as_alertmanager_does(tmp_path: Path) -> None:
    _needs_amtool()
    source = random.Random(42)
    usable: list[str] = []
    for entry in dict.fromkeys(_entries(source, 3000)):
        try:
            parse(entry)
        except ValueError:
            continue
        if entry.lstrip("{ ").startswith(("foo", "bar", "b_1", "a:b")):  # the classic grammar
            usable.append(entry)
    usable = usable[:600]
    assert len(usable) > 300
    values = ["a", "b", "ab", "aa", "a.", "é", "A", "a b", "a,b", "5", "zzz", "{a}", "a|b"]
    compared = 0
    for _ in range(25):
        labels = {name: source.choice(values) for name in ("foo", "bar", "b_1") if source.random() < 0.7}
        done = _amtool(tmp_path, usable, labels or {"x": "y"})
        assert done.returncode == 0, done.stderr
        theirs = set(done.stdout.strip().split(","))
        for number, entry in enumerate(usable):
            ours = all(matcher.matches(labels) for matcher in parse(entry))
            assert ours is (f"r{number}" in theirs), (entry, labels)
            compared += 1
    assert compared > 5000
