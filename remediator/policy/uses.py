"""Whether the actions and checks that a policy uses exist and take the parameters it gives them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from remediator.contracts import Action, Check, ConnectionOf, Params
from remediator.policy import marks, template
from remediator.policy.document import Path
from remediator.policy.faults import did_you_mean, shorten
from remediator.policy.schema import ActionUse, CheckUse, Policy
from remediator.policy.vocabulary import Vocabulary
from remediator.policy.wording import worded


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at a path of the file; `key` where it is the key that is wrong, not its value."""

    path: Path
    message: str
    key: bool = False


class Uses:
    """Checks uses against one vocabulary; equal parameters of an action are validated once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[tuple[str, str], tuple[Fault, ...]] = {}

    def faults(self, policy: Policy) -> Iterator[Fault]:
        """Everything wrong with the policy's actions and checks."""
        for number, use in enumerate(policy.when):
            yield from self._check(use, ("when", number))
        for number, use in enumerate(policy.evidence):
            yield from self._check(use, ("evidence", number))
        if policy.verify is not None:
            for number, use in enumerate(policy.verify.checks):
                yield from self._check(use, ("verify", "checks", number))
        for number, remedy in enumerate(policy.remedies):
            rung: Path = ("remedies", number)
            for position, check in enumerate(remedy.when):
                yield from self._check(check, (*rung, "when", position))
            for position, action in enumerate(remedy.actions):
                where = (*rung, "steps", position) if remedy.steps else rung
                yield from self._action(action, where)
                found = self._vocabulary.catalogue.action(action.action)
                if found is not None and found.irreversible is not None:
                    if remedy.expires is not None:
                        yield Fault(
                            (*rung, "expires"),
                            f"{found.name} cannot be undone ({found.irreversible}), so it cannot expire; "
                            "remove `expires:`",
                            key=True,
                        )
                    if policy.on_failure == "revert":
                        yield Fault(
                            ("on_failure",),
                            f"{found.name} cannot be undone ({found.irreversible}), so the policy cannot "
                            "revert; write on_failure: keep",
                        )

    def _action(self, use: ActionUse, where: Path) -> Iterator[Fault]:
        catalogue = self._vocabulary.catalogue
        found = catalogue.action(use.action)
        if found is None:
            names = [action.name for action in catalogue.actions()]
            yield Fault(
                (*where, "action"),
                f"no action is named {shorten(use.action)!r}{did_you_mean(use.action, names)}",
            )
            return
        yield from self._with(found, use.with_, where)

    def _check(self, use: CheckUse, where: Path) -> Iterator[Fault]:
        catalogue = self._vocabulary.catalogue
        found = catalogue.check(use.check)
        if found is None:
            names = [check.name for check in catalogue.checks()]
            yield Fault(
                (*where, "check"), f"no check is named {shorten(use.check)!r}{did_you_mean(use.check, names)}"
            )
            return
        yield from self._with(found, use.with_, where)
        if use.is_ is not None and (reason := use.is_.fault(found.unit)):
            yield Fault((*where, "is"), f"{found.name}: {reason}")

    def _with(self, thing: Action[Any] | Check[Any], with_: dict[str, Any], where: Path) -> Iterator[Fault]:
        kind = "action" if isinstance(thing, Action) else "check"
        key = (f"{kind} {thing.name}", json.dumps(with_, sort_keys=True, default=repr))
        if key not in self._known:
            self._known[key] = tuple(self._parameters(thing.name, thing.params, with_))
        for fault in self._known[key]:
            yield Fault((*where, "with", *fault.path), fault.message, fault.key)

    def _parameters(self, name: str, model: type[Params], with_: dict[str, Any]) -> Iterator[Fault]:
        open_paths: set[Path] = set()
        plain: dict[str, Any] = json.loads(json.dumps(with_))
        for path, text, annotation in marks.leaves(with_, model):
            if reason := template.fault(text):
                yield Fault(path, reason)
                open_paths.add(path)
                continue
            mark = marks.selector(annotation)
            if template.refers(text):
                open_paths.add(path)
                if mark is None and path[0] in marks.parameters(model):
                    selectors = [field for field in marks.parameters(model) if _selects(model, field)]
                    where = ".".join(map(str, path))
                    hint = f" (labels may stand in: {', '.join(selectors)})" if selectors else ""
                    yield Fault(
                        path, f"{where} of {name} may not be taken from an alert; write a fixed value{hint}"
                    )
                continue
            _put(plain, path, template.unescape(text))
            if mark is not None and (allowed := template.misfit(template.unescape(text), mark)):
                yield Fault(
                    path, f"{shorten(text)!r} does not fit {'.'.join(map(str, path))}; allowed: {allowed}"
                )
                open_paths.add(path)
        try:
            model.model_validate(plain)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                path = tuple(item["loc"])
                # what an alert will say is not known yet; it is validated again when it is
                if any(path[: len(opened)] == opened for opened in open_paths) or (not path and open_paths):
                    continue
                message, key = worded(item, model, f"{name}: ")
                yield Fault(path, message, key)
        yield from self._connections(name, model, plain)

    def _connections(self, name: str, model: type[Params], with_: dict[str, Any]) -> Iterator[Fault]:
        connections = self._vocabulary.connections
        for field, annotation in marks.parameters(model).items():
            mark = _connection(annotation)
            value = with_.get(field)
            if mark is None or not isinstance(value, str) or template.refers(value):
                continue
            of_kind = [known for known, kind in connections.items() if kind == mark.kind]
            if value not in connections:
                yield Fault(
                    (field,),
                    f"no connection is named {shorten(value)!r} in the settings"
                    + (did_you_mean(value, of_kind) if of_kind else f"; there is none of kind {mark.kind}"),
                )
            elif connections[value] != mark.kind:
                yield Fault(
                    (field,),
                    f"the connection {value!r} is of kind {connections[value]} and {name} needs {mark.kind}"
                    + did_you_mean(value, of_kind),
                )


def _selects(model: type[Params], field: str) -> bool:
    annotation = marks.parameters(model)[field]
    return marks.selector(annotation) is not None or marks.selector(marks.within(annotation)) is not None


def _connection(annotation: Any) -> ConnectionOf | None:
    for part in get_args(annotation) if get_origin(annotation) is not None else ():
        if isinstance(part, ConnectionOf):
            return part
        if (found := _connection(part)) is not None:
            return found
    return None


def _put(values: Any, path: Path, text: str) -> None:
    for step in path[:-1]:
        values = values[step]
    values[path[-1]] = text
