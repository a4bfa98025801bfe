"""One file's text → one validated policy (or limits, windows, chains), or all of its faults in place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from remediator.errors import PolicyError
from remediator.policy import document, matcher
from remediator.policy.document import Path
from remediator.policy.escalation import Escalation
from remediator.policy.faults import PolicyErrors, printable
from remediator.policy.fields import FROM_FILE
from remediator.policy.limits import LimitsFile
from remediator.policy.matcher import Matcher
from remediator.policy.schema import Policy
from remediator.policy.uses import Fault, Uses
from remediator.policy.window import WindowsFile
from remediator.policy.wording import worded

LIMITS, WINDOWS, ESCALATION = "limits.yaml", "windows.yaml", "escalation.yaml"
SPECIAL: dict[str, type[BaseModel]] = {LIMITS: LimitsFile, WINDOWS: WindowsFile, ESCALATION: Escalation}


def special(file: str, text: str) -> Any:
    """limits.yaml, windows.yaml or escalation.yaml.

    Raises:
        PolicyErrors: all faults of the file.
    """
    return _validated(file, text, SPECIAL[file])


def policy(file: str, text: str, uses: Uses) -> Policy:
    """A policy, its matchers and the parameters of its actions and checks validated.

    Raises:
        PolicyErrors: all faults of the file.
    """
    if (stem := file.rpartition("/")[2]) in SPECIAL:
        raise PolicyErrors([PolicyError(f"{stem} stands only at the top of the policies directory", file)])
    found: Policy = _validated(file, text, Policy)
    faults = [*_matcher_faults(found), *uses.faults(found)]
    if faults:
        raise PolicyErrors(placed(file, text, faults))
    return found


def matchers(policy: Policy) -> tuple[Matcher, ...]:
    """The parsed matchers of a policy that was validated before."""
    return tuple(one for entry in policy.match for one in matcher.parse(entry, check=False))


def placed(file: str, text: str, faults: Iterable[Fault]) -> list[PolicyError]:
    """Faults with their line and column."""
    found = document.positions(text, file)
    return [
        PolicyError(printable(fault.message), file, *document.locate(found, fault.path, fault.key))
        for fault in faults
    ]


def _validated(file: str, text: str, model: type[BaseModel]) -> Any:
    try:
        value = document.read(text, file)
    except PolicyError as error:
        raise PolicyErrors([error]) from None
    try:
        return model.model_validate(value, context=FROM_FILE, by_alias=True, by_name=False)
    except ValidationError as error:
        items = error.errors(include_url=False)
        # a list whose entries are all faulty is "too short" as well, which helps nobody
        deeper = {tuple(item["loc"])[:depth] for item in items for depth in range(len(item["loc"]))}
        faults = [
            _fault(item, model)
            for item in items
            if item["type"] != "too_short" or tuple(item["loc"]) not in deeper
        ]
        raise PolicyErrors(placed(file, text, faults)) from None


def _fault(item: Any, model: type[BaseModel]) -> Fault:
    message, key = worded(item, model)
    path: Path = tuple(item["loc"])
    if item["type"] == "missing":
        return Fault(path[:-1], message)
    # a fault of a whole mapping names its key first, as in "`within:` is …"
    if message.startswith("`") and (named := message[1:].partition(":")[0]):
        return Fault((*path, named), message, key=True)
    return Fault(path, message, key)


def _matcher_faults(policy: Policy) -> list[Fault]:
    faults: list[Fault] = []
    parsed: list[Matcher] = []
    for number, entry in enumerate(policy.match):
        try:
            parsed.extend(matcher.parse(entry))
        except ValueError as error:
            faults.append(Fault(("match", number), str(error)))
    if not faults and all(one.holds("") for one in parsed):
        message = 'these matchers hold for every alert; add one that does not, for example alertname="…"'
        faults.append(Fault(("match",), message, key=True))
    return faults
