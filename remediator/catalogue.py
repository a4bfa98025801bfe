"""The catalogue: every action and check, found by importing their packages.

Start-up stops at a module that cannot be imported and at a name that stands twice; nothing is skipped.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType, ModuleType
from typing import Any, TypeVar

from remediator.contracts import Action, Check
from remediator.errors import ConfigurationError

K = TypeVar("K", Action[Any], Check[Any])

PACKAGES = ("remediator.actions", "remediator.checks")
_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")


class Catalogue:
    """The actions and checks of this installation, by name.

    Raises:
        ConfigurationError: two have one name.
    """

    def __init__(self, actions: Iterable[Action[Any]], checks: Iterable[Check[Any]]) -> None:
        self._actions = _by_name(actions)
        self._checks = _by_name(checks)

    def action(self, name: str) -> Action[Any] | None:
        return self._actions.get(name)

    def check(self, name: str) -> Check[Any] | None:
        return self._checks.get(name)

    def actions(self) -> Sequence[Action[Any]]:
        """Sorted by name."""
        return tuple(self._actions.values())

    def checks(self) -> Sequence[Check[Any]]:
        """Sorted by name."""
        return tuple(self._checks.values())


def scan(packages: Sequence[str] = PACKAGES) -> Catalogue:
    """Import every module of the packages and take the actions and checks that are defined there.

    A class whose name begins with `_` is a base for others.

    Args:
        packages: importable package names.

    Raises:
        ConfigurationError: a module cannot be imported, a class has no usable name, lacks a method, or
            wants arguments, or two have one name. The message says which.
    """
    modules = [module for package in packages for module in _modules(package)]
    return Catalogue(
        _found(modules, Action),  # type: ignore[type-abstract]
        _found(modules, Check),  # type: ignore[type-abstract]
    )


def _modules(package: str) -> Iterator[ModuleType]:
    root = _import(package)
    for info in sorted(pkgutil.iter_modules(root.__path__, f"{package}."), key=lambda info: info.name):
        yield _import(info.name)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a module may raise anything; nothing is swallowed, only named
        raise ConfigurationError(
            f"module {name} of the catalogue cannot be imported: {type(error).__name__}: {error}"
        ) from error


def _found(modules: Iterable[ModuleType], base: type[K]) -> Iterator[K]:
    for module in modules:
        for name, defined in vars(module).items():
            if not (isinstance(defined, type) and issubclass(defined, base)):
                continue
            if defined.__module__ != module.__name__ or name.startswith("_"):
                continue
            where = f"{module.__name__}.{name}"
            if not _NAME.fullmatch(getattr(defined, "name", "")):
                raise ConfigurationError(f"{where} needs a name like postgres.cancel_queries")
            try:
                yield defined()
            except TypeError as error:
                raise ConfigurationError(f"{where} cannot be made: {error}") from error


def _by_name(things: Iterable[K]) -> Mapping[str, K]:
    found: dict[str, K] = {}
    for thing in things:
        if other := found.get(thing.name):
            raise ConfigurationError(
                f"{thing.name} is defined twice: by {_where(other)} and by {_where(thing)}"
            )
        found[thing.name] = thing
    return MappingProxyType(dict(sorted(found.items())))


def _where(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
