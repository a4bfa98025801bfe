"""One daemon for the tests that only read or use names of their own; a fresh one for the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.served import TOKENS, Running, serving


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """On loopback, without tokens."""
    with serving(tmp_path_factory.mktemp("local")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With tokens."""
    with serving(tmp_path_factory.mktemp("guarded"), TOKENS) as running:
        yield running


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Running]:
    """Of this test alone, to be spoilt."""
    with serving(tmp_path) as running:
        yield running
