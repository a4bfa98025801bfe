"""Puts settings together from the file, the environment and the secrets directory.

This is the only module that reads the environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from remediator.errors import ConfigurationError
from remediator.model import SECOND, span
from remediator.settings import document
from remediator.settings.root import Settings
from remediator.settings.values import parse_duration, shown, suggest

PREFIX = "REMEDIATOR_"
_PLAIN = {"failpoint", "secrets_dir"}
_REFERENCE = re.compile(r"\$(\$?)\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SECRET_KEYS = {"auth", "basic", "bearer", "password", "query_token", "token", "tokens", "key", "link_key"}


def load(config: Path | None = None) -> Settings:
    """Read the settings.

    Args:
        config: the file; without it `REMEDIATOR_CONFIG`, else ./remediator.yaml where there is
            one, else the defaults alone.

    Raises:
        ConfigurationError: names the key, what was seen, what is allowed and what to do.
    """
    environment = os.environ
    named = environment.get("REMEDIATOR_CONFIG")
    given = config or (Path(named) if named else None)
    file = given or Path("remediator.yaml")
    if given is None and not file.exists():
        return assemble("", "", environment, Path())
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"settings file {file}: cannot be read: {why}; give its path with --config"
        ) from None
    return assemble(text, str(file), environment, file.parent)


def assemble(text: str, file: str, environment: Mapping[str, str], base: Path) -> Settings:
    """The settings of a file's text and an environment; relative paths in the text start at `base`."""
    data, lines = document.read(text, file)
    _anchor(data, base)
    origins = {path: f"{file}:{line}" for path, line in lines.items()}
    for name in sorted(environment):
        path = _variable(name, data)
        if path:
            _put(data, path, _parsed(name, environment[name]), name)
            origins = {known: where for known, where in origins.items() if known[: len(path)] != path}
            origins[path] = f"environment variable {name}"
    directory = data.get("secrets_dir")
    secrets = _Secrets(Path(directory) if isinstance(directory, str) else None, environment, origins)
    resolved = secrets.resolve(data, ())
    if secrets.faults:
        raise ConfigurationError("\n".join(dict.fromkeys(secrets.faults)))
    try:
        return Settings(**resolved)
    except ValidationError as error:
        _refuse(error, data, origins)


# ---------------------------------------------------------------- environment


def _variable(name: str, data: dict[str, Any]) -> document.Path | None:
    """The path that `REMEDIATOR_SECTION__KEY` means; None where the variable is not ours.

    Without `__` only plain top-level keys are read: Kubernetes sets REMEDIATOR_PORT and the like
    in every pod beside a Service of that name.
    """
    if not name.startswith(PREFIX):
        return None
    parts = name.removeprefix(PREFIX).lower().split("__")
    if len(parts) == 1:
        return (parts[0],) if parts[0] in _PLAIN else None
    path: list[str | int] = []
    here: Any = data
    for part in parts:
        # A name such as alertmanager-prod cannot stand in a variable; its dash is an underscore there.
        same = [key for key in here if _plain(key) == part] if isinstance(here, dict) else []
        path.append(same[0] if same else part)
        here = here.get(path[-1]) if isinstance(here, dict) else None
    if path[0] not in Settings.model_fields:
        hint = suggest(str(path[0]), [key for key in Settings.model_fields if key not in _PLAIN])
        raise ConfigurationError(f"environment variable {name}: no section is named {path[0]!r}; {hint}")
    return tuple(path)


def _plain(key: str) -> str:
    return key.lower().replace("-", "_")


def _parsed(name: str, value: str) -> Any:
    if value[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ConfigurationError(f"environment variable {name}: starts like JSON but is not JSON") from None


def _put(data: dict[str, Any], path: document.Path, value: Any, name: str) -> None:
    here = data
    for n, part in enumerate(path[:-1]):
        inner = here.setdefault(str(part), {})
        if not isinstance(inner, dict):
            key = ".".join(map(str, path[: n + 1]))
            raise ConfigurationError(
                f"environment variable {name}: {key} is not a mapping, so nothing can be set inside it; "
                f"set {key} as a whole, as JSON"
            )
        here = inner
    here[str(path[-1])] = value


def _anchor(data: dict[str, Any], base: Path) -> None:
    """Make the file's relative paths start at the file's directory."""
    places: list[tuple[Any, str]] = [(data, "secrets_dir"), (data.get("policies"), "dir")]
    connections = data.get("connections")
    if isinstance(connections, dict):
        places += [(connection, "kubeconfig") for connection in connections.values()]
    for place, key in places:
        if isinstance(place, dict) and isinstance(place.get(key), str) and not place[key].startswith("${"):
            place[key] = str(base / place[key])
    store = data.get("store")
    if isinstance(store, dict) and str(store.get("url")).startswith(("sqlite:///./", "sqlite:///../")):
        path = (base / store["url"].removeprefix("sqlite:///")).absolute()
        store["url"] = f"sqlite:///{str(path).lstrip('/')}"


# ---------------------------------------------------------------- secrets


class _Secrets:
    """Replaces `${NAME}` by the secret of that name; `$${` stands for a plain `${`.

    What cannot be replaced is kept in `faults`: all of them are said at once, and nothing is used then.
    """

    def __init__(
        self, directory: Path | None, environment: Mapping[str, str], origins: Mapping[document.Path, str]
    ) -> None:
        self.directory = directory
        self.environment = environment
        self.origins = origins
        self.faults: list[str] = []

    def resolve(self, value: Any, path: document.Path) -> Any:
        if isinstance(value, dict):
            return {key: self.resolve(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.resolve(inner, (*path, n)) for n, inner in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return _REFERENCE.sub(lambda found: self._one(found, path), value)
        return value

    def _one(self, found: re.Match[str], path: document.Path) -> str:
        if found[1]:
            return "${" + found[2] + "}"
        name = found[2]
        if not _NAME.fullmatch(name):
            return self._fail(
                path, f"${{{name}}} is no name of a secret; letters, digits and _ . - are allowed"
            )
        try:
            secret = self._read(name)
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            return self._fail(path, f"secret {name}: {self.directory}/{name} cannot be read: {why}")
        if secret is None:
            looked = f"no file {name} in secrets_dir {self.directory}, and " if self.directory else ""
            return self._fail(
                path, f"secret {name} is missing: {looked}no environment variable {name}; set one"
            )
        return secret or self._fail(path, f"secret {name} is empty; give it a value")

    def _read(self, name: str) -> str | None:
        if self.directory is not None:
            with contextlib.suppress(FileNotFoundError):
                return (self.directory / name).read_text(encoding="utf-8").rstrip("\r\n")
        return self.environment.get(name)

    def _fail(self, path: document.Path, what: str) -> str:
        self.faults.append(_message(path, what, self.origins))
        return ""


# ---------------------------------------------------------------- errors


def _refuse(error: ValidationError, data: dict[str, Any], origins: Mapping[document.Path, str]) -> NoReturn:
    found = [_fault(details, data, origins) for details in error.errors(include_url=False)]
    raise ConfigurationError("\n".join(dict.fromkeys(found))) from None


def _fault(details: ErrorDetails, data: dict[str, Any], origins: Mapping[document.Path, str]) -> str:
    path: document.Path = ()
    here: Any = data
    for part in details["loc"]:
        # The loc also names union members (`postgres`), which are no keys of the file.
        inside = isinstance(here, dict) and part in here
        if inside or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            path, here = (*path, part), here[part]
    kind = details["type"]
    what = details["msg"].removeprefix("Value error, ")
    if kind == "unknown_key":
        return _message((*path, details["ctx"]["key"]), what, origins)
    if kind == "missing":
        return _message((*path, details["loc"][-1]), "is required and not given", origins)
    if kind == "union_tag_invalid":
        tag, expected = details["ctx"]["tag"], details["ctx"]["expected_tags"]
        allowed = expected.replace("'", "").split(", ")
        return _message((*path, "kind"), f"{tag}: {suggest(tag, allowed)}", origins)
    if isinstance(here, dict | list):
        return _message(path, what, origins)
    # What the file says is shown, never what a ${NAME} in it stands for.
    secret = path[:1] == ("notifiers",) or any(part in _SECRET_KEYS for part in path[-2:])
    seen = "***" if secret and "${" not in str(here) else shown(str(here))
    return _message(path, f"{seen}: {_words(details, here, what)}", origins)


def _words(details: ErrorDetails, value: Any, what: str) -> str:
    """What is wrong with a value, in the units in which it is written."""
    given = details.get("ctx", {})
    bound = next((given[name] for name in ("ge", "gt", "le", "lt") if name in given), None)
    if bound is not None and isinstance(value, str):
        with contextlib.suppress(ValueError):
            parse_duration(value)
            # Timeouts of connections are held in seconds, as client libraries take them, all else in ms.
            limit = span(bound if bound >= SECOND else round(bound * SECOND))
            return what.lower().replace("input should be", "must be").rpartition(" ")[0] + f" {limit}"
    if details["type"] in ("too_short", "string_too_short"):
        least = given["min_length"]
        return "is empty; give it a value" if least == 1 else f"must have at least {least} characters"
    return f"{what[:1].lower()}{what[1:]}"


def _message(path: document.Path, what: str, origins: Mapping[document.Path, str]) -> str:
    where = path
    while where and where not in origins:
        where = where[:-1]
    place = f"{origins[where]}: " if where in origins and path else ""
    key = ".".join(map(str, path))
    return f"{place}{key}: {what}" if key else what
