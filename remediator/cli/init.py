"""`init`: settings and a first policy of one's own, copied from the shipped library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remediator.cli import terminal
from remediator.cli.invocation import Invocation
from remediator.cli.verb import FINE, group, verb

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from remediator.cli.names import Names

app = group()

_FIRST = "connection-pool-cancel-long-queries"
_RULES = ("limits.yaml", "windows.yaml", "escalation.yaml")
"""Safety rules of the whole daemon; they sit beside the policies."""


@verb(app)
def init(
    call: Invocation,
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to.")] = Path("."),
    policy: Annotated[
        str | None, typer.Option("--policy", help="Which policy of the library to copy.", show_default=False)
    ] = None,
) -> int:
    """Write remediator.yaml and a directory of policies. What is there already is never changed."""
    from remediator.cli.names import used
    from remediator.errors import ConfigurationError
    from remediator.policy.schema import json_schema
    from remediator.wiring import catalogue

    texts = library()
    names = sorted(name.removesuffix(".yaml") for name in texts if _is_policy(name))
    if policy is None:
        policy = _FIRST if _FIRST in names else names[0]
    if policy not in names:
        raise ConfigurationError(f"the library has no policy {policy!r}; it has {', '.join(names)}")
    own = (f"{policy}.yaml", f"{policy}.test.yaml")
    known = catalogue()
    files = {"remediator.yaml": settings(used({own[0]: texts[own[0]]}, known))}
    files |= {f"policies/{name}": text for name, text in texts.items() if name in own or name in _RULES}
    files["policies/policy.schema.json"] = json.dumps(json_schema(known), indent=2, ensure_ascii=False) + "\n"
    written = {name: _write(directory / name, text) for name, text in files.items()}
    call.print(
        {"directory": str(directory), "policy": policy, "written": written}, _told(directory, policy, written)
    )
    return FINE


def library() -> dict[str, str]:
    """The shipped policies with their tests, by file name.

    Raises:
        ConfigurationError: this installation has none.
    """
    from remediator.errors import ConfigurationError

    for place in _places():
        found = {
            file.name: file.read_text(encoding="utf-8")
            for file in place.iterdir()
            if file.name.endswith(".yaml") and file.is_file()
        }
        if any(_is_policy(name) for name in found):
            return found
    raise ConfigurationError("the library of policies is not part of this installation; reinstall remediator")


def _places() -> list[Traversable]:
    """In a wheel the library is packed as remediator/library; in a source checkout it is policies/."""
    from importlib.resources import files

    package = files("remediator")
    places: list[Traversable] = [package / "library"]
    if isinstance(package, Path):
        places.append(package.parent / "policies")
    return [place for place in places if place.is_dir()]


def _is_policy(name: str) -> bool:
    return name.endswith(".yaml") and not name.endswith(".test.yaml") and name not in _RULES


def _write(path: Path, text: str) -> bool:
    """Write a new file; False if there is one already."""
    from remediator.errors import ConfigurationError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None
    return True


def _told(directory: Path, policy: str, written: dict[str, bool]) -> str:
    lines = [f"{'wrote' if new else 'kept '}  {directory / name}" for name, new in written.items()]
    config = directory / "remediator.yaml"
    lines += [
        "",
        terminal.bold("Next"),
        f"  1. put your own addresses into {config}",
        f"  2. read {directory / 'policies' / policy}.yaml: it only observes until you set mode: enforce",
        f"  3. remediator policies check --config {config}",
        f"  4. remediator serve --config {config}",
        "  5. let your alert manager send to http://127.0.0.1:8080/webhooks/<sender>",
    ]
    if not written["remediator.yaml"]:
        lines.append("settings were there already: see that they have what the policy names (step 3 tells)")
    return "\n".join(lines)


# ---------------------------------------------------------------- the files

_CONNECTIONS = {
    "prometheus": 'url: "http://127.0.0.1:9090"',
    "postgres": (
        'dsn: "postgresql://remediator@127.0.0.1:5432/{name}"\n    # password: "${{{secret}_PASSWORD}}"'
    ),
    "http": 'url: "http://127.0.0.1:8000"',
    "aws": 'region: us-east-1\n    account: "123456789012"',
    "gcp": "project: example-prod",
    "kubernetes": "# context: prod    # else the kubeconfig's current one; in_cluster: true in a pod",
}


def settings(named: Names) -> str:
    """The text of remediator.yaml, with what the policy names."""
    senders = [
        f'  {name}:\n    kind: {_sender(name)}\n    # auth: {{bearer: "${{{_secret(name)}_TOKEN}}"}}'
        for name in sorted(named.senders) or ["alertmanager"]
    ]
    connections = []
    for name, kind in sorted(named.connections.items()):
        body = _CONNECTIONS.get(kind, "").format(name=name, secret=_secret(name))
        connections.append(f"  {name}:\n    kind: {kind}\n    {body}")
    section = "connections:\n" + "\n".join(connections) if connections else "connections: {}"
    return SETTINGS.format(senders="\n".join(senders), connections=section)


def _sender(name: str) -> str:
    google = any(part in ("gcp", "google", "monitoring") for part in name.replace("_", "-").split("-"))
    return "cloud_monitoring" if google else "alertmanager"


def _secret(name: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in name).upper()


SETTINGS = """\
# Settings of remediator. Every key can also be given as REMEDIATOR_SECTION__KEY, and ${{NAME}} reads the
# secret NAME from the environment or from secrets_dir. Unknown keys are refused.

server: {{host: 127.0.0.1, port: 8080}}    # another host than loopback needs authentication everywhere
store: {{url: "sqlite:///./remediator.db"}}
policies: {{dir: policies, reload: 5s}}

senders:                                 # POST /webhooks/<name>
{senders}

# What checks and actions name in `connection:`.
{connections}

notifiers: {{}}                            # what escalation.yaml names, as Apprise URLs
#  primary: {{url: "${{PRIMARY_APPRISE_URL}}"}}

# access:                                # who may use the API; without it, it is open on loopback only
#   tokens: [{{name: alice, role: operator, token: "${{ALICE_TOKEN}}"}}]
"""
