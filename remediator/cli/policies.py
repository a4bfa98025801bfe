"""`policies check`, `policies schema` and `policies restore`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remediator.cli import terminal
from remediator.cli.invocation import Invocation
from remediator.cli.verb import FINE, NO, group, verb

if TYPE_CHECKING:
    from remediator.policy.set import PolicySet
    from remediator.policy.vocabulary import Vocabulary

app = group()


@verb(app, "check")
def check(
    call: Invocation,
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="The policies.  [default: as in the settings]", show_default=False
        ),
    ] = None,
) -> int:
    """Check policy files: every error with file:line:column. 0 they can be loaded, 1 they cannot.

    Without a settings file, names of connections, senders and notifiers are taken as given.
    """
    from remediator.clock import SystemClock
    from remediator.policy.bygone import refuse_bygone
    from remediator.policy.faults import PolicyErrors
    from remediator.policy.load import read_dir
    from remediator.policy.set import compile_set

    notes: list[str] = []
    configured, words = _configured(call, notes)
    folder = directory or configured
    try:
        files = read_dir(folder)
        found = compile_set(files, words or _taken_as_given(files))
        refuse_bygone(found, SystemClock().now())
    except PolicyErrors as errors:
        return _faulty(call, folder, errors)
    warnings = [*found.warnings]
    if not found.policies:
        warnings.append(f"{folder} holds no policy")
    for note in [*warnings, *notes]:
        call.warn(f"warning: {note}")
    value = {
        "ok": True,
        "errors": [],
        "warnings": warnings,
        "policies": _rows(found),
        "limits": found.limits.model_dump(mode="json"),
    }
    call.print(value, f"{_table(found)}\n{_limits(found)}")
    return FINE


@verb(app, "schema")
def schema(call: Invocation) -> None:
    """Print the JSON Schema of a policy file, for editors."""
    from remediator.policy.schema import json_schema

    typer.echo(json.dumps(json_schema(call.catalogue), indent=2, ensure_ascii=False))


@verb(app, "restore")
async def restore(
    call: Invocation,
    policy: Annotated[str, typer.Argument(help="A policy that its breaker has demoted.")],
    comment: Annotated[str, typer.Option("--comment", help="Why; it stays in the audit log.")],
) -> None:
    """Give a policy its mode back after its breaker demoted it: 0 done, 1 it was not demoted."""
    async with call.api() as api:
        await api.restore(policy, comment)
    call.print({"policy": policy, "restored": True}, f"policy {policy} has its own mode again")


def _configured(call: Invocation, notes: list[str]) -> tuple[Path, Vocabulary | None]:
    """The directory and the names of the settings. Checking needs no secret, so where the settings
    cannot be used as a whole, their names still can."""
    from remediator.errors import ConfigurationError

    if not call.has_settings:
        notes.append("no settings file: names of connections, senders and notifiers are not checked")
        return Path("policies"), None
    try:
        from remediator.wiring import vocabulary

        return call.settings.policies.dir, vocabulary(call.settings)
    except ConfigurationError as error:
        first = str(error).splitlines()[0]
        file = call.shared.config or Path("remediator.yaml")
        folder, words = _names_only(file)
        notes.append(f"the settings cannot be used, only their names are: {first}")
        return folder, words


def _names_only(file: Path) -> tuple[Path, Vocabulary]:
    from remediator.errors import ConfigurationError
    from remediator.policy.vocabulary import Vocabulary
    from remediator.settings.document import read
    from remediator.wiring import catalogue

    try:
        data, _ = read(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings file {file}: cannot be read: {error}") from None

    def names(section: str) -> dict[str, Any]:
        found = data.get(section)
        return found if isinstance(found, dict) else {}

    kinds = {
        name: str(one.get("kind", "")) for name, one in names("connections").items() if isinstance(one, dict)
    }
    plugins = data.get("plugins")
    words = Vocabulary(
        catalogue=catalogue(tuple(map(str, plugins)) if isinstance(plugins, list) else ()),
        connections=kinds,
        senders=frozenset(names("senders")),
        notifiers=frozenset(names("notifiers")),
    )
    return file.parent / str(names("policies").get("dir", "policies")), words


def _taken_as_given(files: Mapping[str, str]) -> Vocabulary:
    from remediator.cli.names import used
    from remediator.policy.vocabulary import Vocabulary
    from remediator.wiring import catalogue

    found = used(files, catalogue())
    return Vocabulary(
        catalogue=catalogue(),
        connections=found.connections,
        senders=found.senders,
        notifiers=found.notifiers,
    )


def _faulty(call: Invocation, folder: Path, errors: Any) -> int:
    faults = [
        {"file": _path(folder, one.file), "line": one.line, "column": one.column, "message": one.message}
        for one in errors.errors
    ]
    if call.json:
        call.print({"ok": False, "errors": faults, "warnings": [], "policies": []}, "")
        return NO
    for one in faults:
        place = f":{one['line']}:{one['column']}" if one["line"] else ""
        call.warn(f"{one['file']}{place}: {one['message']}")
    count = len(faults)
    call.warn(f"{count} {'error' if count == 1 else 'errors'}; nothing of this set would be loaded")
    return NO


def _path(folder: Path, file: str) -> str:
    """As an editor can open it: faults name files by their place in the policies directory."""
    return str(folder / file) if (folder / file).exists() else file


def _rows(found: PolicySet) -> list[dict[str, Any]]:
    return [
        {
            "name": policy.name,
            "mode": str(policy.mode),
            "severity": str(policy.severity),
            "from": list(policy.from_),
            "actions": [use.action for remedy in policy.remedies for use in remedy.actions],
            "budget": [str(budget) for budget in policy.limits.budget],
        }
        for policy in found.policies.values()
    ]


def _limits(found: PolicySet) -> str:
    """What bounds the daemon as a whole, also where limits.yaml does not say it."""
    from remediator.model import span
    from remediator.policy.limits import GlobalLimits

    limits, built_in = found.limits, GlobalLimits()
    storm, breaker = limits.storm, limits.breaker
    rows = [
        ("actions", f"at most {', '.join(map(str, limits.budget))}", limits.budget == built_in.budget),
        ("at the same time", str(limits.concurrent), limits.concurrent == built_in.concurrent),
        (
            "storm",
            f"{storm.new_alerts} new alerts of one sender within {span(storm.within)}: "
            f"nothing of it for {span(storm.hold)}",
            storm == built_in.storm,
        ),
        (
            "breaker",
            f"{breaker.ineffective} runs in a row that did not heal: the policy is demoted to "
            f"{breaker.demote_to}",
            breaker == built_in.breaker,
        ),
        *((one.match, f"at most {', '.join(map(str, one.budget))}", False) for one in limits.targets),
    ]
    told = [(name, what, "as built in" if same else "limits.yaml") for name, what, same in rows]
    return terminal.table(("LIMIT", "WHAT HOLDS", "FROM"), told)


def _table(found: PolicySet) -> str:
    rows = [
        (one["name"], one["mode"], one["severity"], one["from"], one["actions"], one["budget"])
        for one in _rows(found)
    ]
    text = terminal.table(("POLICY", "MODE", "SEVERITY", "FROM", "ACTIONS", "BUDGET"), rows, "no policy")
    count = len(rows)
    return f"{text}\n{count} {'policy' if count == 1 else 'policies'}, revision {found.hash[:12]}: no error"
