"""What every action and every check must be. Whoever adds one is told here what is missing."""

from __future__ import annotations

import ast
import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

import remediator
from remediator.catalogue import scan
from remediator.contracts import Action, Check, ConnectionOf, Nothing, Observed, Params, Permission, Selector
from remediator.errors import ConfigurationError, Refused
from remediator.model import Alert, Instant, Landed, Millis, Plan, Reason, Risk, Status, Target
from remediator.policy import template
from remediator.policy.set import compile_set
from remediator.policy.vocabulary import Vocabulary

HERE = Path(__file__).parent
PACKAGE = Path(remediator.__file__).parent
CATALOGUE = scan()
ACTIONS = {action.name: action for action in CATALOGUE.actions()}
CHECKS = {check.name: check for check in CATALOGUE.checks()}
THINGS: dict[str, Action[Any] | Check[Any]] = {**ACTIONS, **CHECKS}
REVERSIBLE = [name for name, action in ACTIONS.items() if action.irreversible is None]

STATES: Mapping[str, Mapping[str, Any]] = {
    "autoscaling.set_capacity": {"desired": 3, "min": 1, "max": 10},
    "cloud_run.shift_traffic": {
        "traffic": {"shop-00002": 100},
        "revisions": ["shop-00002", "shop-00001"],
    },
    "kubernetes.scale": {"replicas": 3},
    "postgres.cancel_queries": {
        "sessions": 1,
        "max_connections": 100,
        "found": [{"pid": 7, "started": "a", "state": "active", "since": "b", "seconds": 1800}],
    },
    "postgres.terminate_queries": {
        "sessions": 1,
        "max_connections": 100,
        "found": [{"pid": 7, "started": "a", "state": "active", "since": "b", "seconds": 1800}],
    },
}
"""A state of each action's target in which its example does something."""


# ---------------------------------------------------------------- declarations


@pytest.mark.parametrize("name", THINGS)
def test_it_is_named_after_its_module_and_has_a_test_beside_it(name: str) -> None:
    system = type(THINGS[name]).__module__.rpartition(".")[2]
    assert name.startswith(f"{system}.")
    assert re.fullmatch(r"[a-z0-9_]+\.[a-z]+(_[a-z]+)*", name)
    kind = "actions" if name in ACTIONS else "checks"
    assert (HERE / kind / f"test_{system}.py").exists()


@pytest.mark.parametrize("name", THINGS)
def test_it_says_in_one_line_what_it_does(name: str) -> None:
    summary = THINGS[name].summary
    assert 10 <= len(summary) <= 100
    assert "\n" not in summary
    assert not summary.endswith(".")


@pytest.mark.parametrize("name", THINGS)
def test_it_declares_the_permissions_it_needs_and_why(name: str) -> None:
    permissions = THINGS[name].permissions
    assert permissions
    for permission in permissions:
        assert isinstance(permission, Permission)
        assert permission.system
        assert permission.grant
        assert len(permission.why) > 5


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_declares_its_risk_its_unit_its_fields_and_how_late_it_can_land(name: str) -> None:
    action = ACTIONS[name]
    assert action.risk in (Risk.REVERSIBLE, Risk.DISRUPTIVE, Risk.DESTRUCTIVE)
    assert action.idempotency.kind in ("token", "conditional", "probe", "none")
    if action.idempotency.kind == "token":
        assert action.idempotency.valid > 0
    assert 0 < action.landing_time <= Millis(3_600_000)
    assert 0 < action.settle_time <= Millis(86_400_000)
    assert action.blast_unit
    assert action.fields


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_can_go_back_or_says_why_not(name: str) -> None:
    action = ACTIONS[name]
    goes_back = type(action).undo is not Action.undo
    assert goes_back == (action.irreversible is None)
    assert goes_back or len(action.irreversible or "") > 20
    assert action.risk is not Risk.REVERSIBLE or goes_back


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_declares_a_unit_that_policies_know_and_how_old_a_sample_may_be(name: str) -> None:
    from remediator.policy.comparison import parse

    check = CHECKS[name]
    assert parse(f"> 1{check.unit}").fault(check.unit) == ""
    assert 0 < check.max_age <= Millis(3_600_000)


# ---------------------------------------------------------------- parameters


def schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of a JSON Schema."""
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key not in ("default", "example", "examples"):
                yield from schemas(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from schemas(item)


@pytest.mark.parametrize("name", THINGS)
def test_parameters_are_frozen_and_know_no_others(name: str) -> None:
    model = THINGS[name].params
    assert issubclass(model, Params)
    assert model.model_config["frozen"] is True
    assert model.model_config["extra"] == "forbid"


@pytest.mark.parametrize("name", THINGS)
def test_every_number_list_and_text_has_a_hard_bound(name: str) -> None:
    schema = THINGS[name].params.model_json_schema()
    for part in schemas(schema):
        kind = part.get("type")
        if kind in ("integer", "number") and "const" not in part and "enum" not in part:
            assert "maximum" in part or "exclusiveMaximum" in part, part
            assert "minimum" in part or "exclusiveMinimum" in part, part
        if kind == "array":
            assert "maxItems" in part, part
        if kind == "object" and "properties" not in part and part.get("additionalProperties"):
            assert "maxProperties" in part, part
    for field, text in schema.get("properties", {}).items():
        if text.get("type") == "string" and field != "connection":
            assert {"pattern", "maxLength", "const", "enum"} & set(text), (field, text)


def parts(annotation: Any) -> Iterator[Any]:
    """Everything that an annotation is made of, to the bottom."""
    yield annotation
    for part in (*getattr(annotation, "__args__", ()), *getattr(annotation, "__metadata__", ())):
        yield from parts(part)


def parameters(thing: Action[Any] | Check[Any]) -> dict[str, list[Any]]:
    """Each parameter with everything that its annotation is made of."""
    return {
        name: [part for whole in (field.annotation, *field.metadata) for part in parts(whole)]
        for name, field in thing.params.model_fields.items()
    }


@pytest.mark.parametrize("name", THINGS)
def test_labels_may_fill_texts_only_and_never_a_connection(name: str) -> None:
    for field, found in parameters(THINGS[name]).items():
        of = [part for part in found if isinstance(part, ConnectionOf)]
        assert (field == "connection") == bool(of), field
        if any(isinstance(part, Selector) for part in found):
            assert not of, field
            assert not {int, float, bool} & {part for part in found if isinstance(part, type)}, field


# ---------------------------------------------------------------- examples


def connections(thing: Action[Any] | Check[Any]) -> dict[str, str]:
    """The connections that the example names, of the kind it needs."""
    return {
        thing.example["with"][field]: part.kind
        for field, found in parameters(thing).items()
        for part in found
        if isinstance(part, ConnectionOf)
    }


@pytest.mark.parametrize("name", THINGS)
def test_the_example_stands_in_a_policy(name: str) -> None:
    thing = THINGS[name]
    policy: dict[str, Any] = {
        "name": "example",
        "description": "The example of the catalogue.",
        "severity": "P3",
        "owner": "platform",
        "runbook": "https://runbooks.example.com/example",
        "match": ['alertname="Example"'],
        "on_failure": "keep",
    }
    if name in ACTIONS:
        policy["remedies"] = [thing.example]
        policy["verify"] = {"within": "5m", "checks": [{"check": "alert.firing", "is": "== 0"}]}
        assert thing.example["action"] == name
    else:
        policy["when"] = [thing.example]
        policy["remedies"] = [ACTIONS["postgres.cancel_queries"].example]
        policy["verify"] = {"within": "5m", "checks": [thing.example]}
        assert thing.example["check"] == name
    words = Vocabulary(
        catalogue=CATALOGUE,
        connections={**connections(ACTIONS["postgres.cancel_queries"]), **connections(thing)},
        senders=frozenset({"alertmanager-prod"}),
        notifiers=frozenset({"primary"}),
    )
    compiled = compile_set({"example.yaml": json.dumps(policy)}, words)
    assert list(compiled.policies) == ["example"]


class Labels(dict[str, str]):
    """Labels of an alert that has whatever it is asked for."""

    WORDS: Mapping[str, str] = {"location": "us-central1", "region": "us-central1"}

    def get(self, name: str, default: Any = None) -> Any:
        return self[name]

    def __missing__(self, name: str) -> str:
        return self.WORDS.get(name, "prod")


ALERT = Alert(
    sender="alertmanager-prod",
    fingerprint="f00d",
    status=Status.FIRING,
    labels=Labels(),
    annotations=Labels(),
    starts_at=Instant(0),
)


def example(thing: Action[Any] | Check[Any]) -> Any:
    return template.render(thing.example.get("with", {}), thing.params, ALERT)


@pytest.mark.parametrize("name", THINGS)
def test_parameters_survive_the_store(name: str) -> None:
    params = example(THINGS[name])
    stored = json.loads(json.dumps(params.model_dump(mode="json")))
    assert THINGS[name].params.model_validate(stored) == params


# ---------------------------------------------------------------- plans


def observed(name: str, **fields: Any) -> Observed:
    target = Target(name=ACTIONS[name].target_name(example(ACTIONS[name])), key=f"{name}/1")
    return Observed(target=target, fields=copy.deepcopy({**STATES[name], **fields}), version="v1")


def planned(name: str) -> Plan:
    plan = ACTIONS[name].plan(observed(name), example(ACTIONS[name]), [])
    assert isinstance(plan, Plan), plan
    return plan


@pytest.mark.parametrize("name", ACTIONS)
def test_a_plan_is_pure_and_survives_the_store(name: str) -> None:
    action, state = ACTIONS[name], observed(name)
    first = action.plan(state, example(action), [])
    second = action.plan(state, example(action), [])
    assert first == second
    assert state == observed(name), "plan changed what was observed"
    assert isinstance(first, Plan)
    assert msgspec.json.decode(msgspec.json.encode(first), type=Plan) == first
    assert action.params.model_validate(first.params) == example(action)


@pytest.mark.parametrize("name", ACTIONS)
def test_a_plan_says_from_what_to_what_and_how_much(name: str) -> None:
    action, plan = ACTIONS[name], planned(name)
    assert plan.action == name
    assert plan.target == observed(name).target
    assert plan.before != plan.after
    assert set(plan.before) == set(plan.after) <= set(action.fields)
    assert plan.blast.amount > 0
    assert plan.blast.unit == action.blast_unit
    assert plan.blast.whole is None or plan.blast.amount <= plan.blast.whole


@pytest.mark.parametrize("name", ACTIONS)
def test_what_is_as_before_has_not_landed(name: str) -> None:
    assert ACTIONS[name].landed(observed(name), planned(name)) is Landed.NOT_APPLIED


@pytest.mark.parametrize("name", REVERSIBLE)
def test_what_can_go_back_goes_back_to_where_it_was(name: str) -> None:
    action, plan = ACTIONS[name], planned(name)
    acted = observed(name, **plan.after)
    assert action.landed(acted, plan) is Landed.APPLIED
    back = action.undo(acted, plan)
    assert isinstance(back, Plan)
    assert back == action.undo(acted, plan)
    assert (back.before, back.after) == (plan.after, plan.before)
    assert back.target == plan.target
    assert msgspec.json.decode(msgspec.json.encode(back), type=Plan) == back
    again = observed(name, **back.after)
    assert action.landed(again, back) is Landed.APPLIED
    assert isinstance(action.undo(again, plan), Nothing)


@pytest.mark.parametrize("name", sorted(set(ACTIONS) - set(REVERSIBLE)))
def test_what_cannot_go_back_refuses_to(name: str) -> None:
    with pytest.raises(Refused, match=f"{name} cannot be undone: ") as raised:
        ACTIONS[name].undo(observed(name), planned(name))
    assert raised.value.reason is Reason.IRREVERSIBLE


# ---------------------------------------------------------------- the code


def calls_of_apply(file: Path) -> set[str]:
    """What `.apply(…)` is called on in a file, as written."""
    tree = ast.parse(file.read_text())
    return {
        ast.unparse(node.func.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "apply"
    }


def test_only_the_door_applies_a_plan() -> None:
    """The door calls the action, and ACTING calls the door; nobody else calls either."""
    found = {
        file.relative_to(PACKAGE).as_posix(): calls
        for file in PACKAGE.rglob("*.py")
        if (calls := calls_of_apply(file))
    }
    assert found == {
        "engine/execute.py": {"action"},
        "engine/states/acting.py": {"case.tools.execute"},
    }


def test_the_scan_imports_no_sdk() -> None:
    code = (
        "import sys; from remediator.catalogue import scan; scan();"
        "print(sorted({name.split('.')[0] for name in sys.modules}"
        " & {'boto3', 'botocore', 'google', 'grpc', 'kubernetes', 'psycopg', 'httpx2', 'redis'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- the scan

CHECK = """
from remediator.contracts import Check, Params, Permission
from remediator.model import Reading
class Nothings(Params):
    pass
class {name}(Check[Nothings]):
    {body}
    summary = "Reads nothing at all"
    params = Nothings
    unit = ""
    permissions = (Permission("none", "none", "nothing"),)
    example = {{}}
    def {method}(self, context, params):
        return Reading(samples=())
"""


def package(directory: Path, **modules: str) -> str:
    """An importable package with these modules; its name is the directory's."""
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(text)
    (directory / "__init__.py").write_text("")
    return directory.name


@pytest.fixture
def plugin(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    directory = tmp_path / f"plugin_{abs(hash(request.node.name))}"
    directory.mkdir()
    sys.path.insert(0, str(tmp_path))
    yield directory
    sys.path.remove(str(tmp_path))


def test_what_is_defined_in_a_module_is_found_and_what_it_imports_is_not(plugin: Path) -> None:
    text = CHECK.format(name="Blank", body='name = "blank.nothing"', method="read")
    base = text.replace("class Blank", "class _Base").replace('name = "blank.nothing"', "pass")
    name = package(plugin, blank=f"{text}\nfrom remediator.checks.alert import Firing\n{base}")
    found = scan([name])
    assert [check.name for check in found.checks()] == ["blank.nothing"]
    assert found.check("blank.nothing") is found.checks()[0]
    assert found.check("alert.firing") is None
    assert found.actions() == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('no such luck')", r"module \w+\.broken .* RuntimeError: no such luck"),
        ("import a_library_that_nobody_installed", r"module \w+\.broken .* ModuleNotFoundError"),
        ("def (:", r"module \w+\.broken .* SyntaxError"),
        (CHECK.format(name="Blank", body="pass", method="read"), r"\w+\.broken\.Blank needs a name like"),
        (
            CHECK.format(name="Blank", body='name = "blank"', method="read"),
            r"\w+\.broken\.Blank needs a name like",
        ),
        (
            CHECK.format(name="Blank", body='name = "blank.nothing"', method="reed"),
            r"\w+\.broken\.Blank cannot be made: .*read",
        ),
        (
            CHECK.format(name="Blank", body='name = "blank.nothing"', method="read")
            + CHECK.format(name="Other", body='name = "blank.nothing"', method="read"),
            r"blank\.nothing is defined twice: by \w+\.broken\.Blank and by \w+\.broken\.Other",
        ),
    ],
)
def test_a_broken_module_stops_start_up_and_is_named(plugin: Path, text: str, said: str) -> None:
    name = package(plugin, broken=text)
    with pytest.raises(ConfigurationError, match=said):
        scan([name])


def test_a_package_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="module no_such_package of the catalogue"):
        scan(["no_such_package"])
