"""Whatever stands in a file, the answer is a policy set or faults with a place; never another error."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from remediator.errors import PolicyError
from remediator.policy.document import read
from remediator.policy.faults import PolicyErrors
from remediator.policy.set import compile_set
from tests.policy.words import VOCABULARY, good

POLICY: Any = read(good("a")["a.yaml"], "a.yaml")
SPECIAL: dict[str, Any] = {
    "limits.yaml": {"global": {"budget": ["1 per 1h"]}, "targets": [{"match": "a*", "budget": ["1 per 1h"]}]},
    "escalation.yaml": {"chains": {"c": [{"after": "0m", "notify": ["log"], "if": "severity <= P1"}]}},
    "windows.yaml": {"windows": [{"name": "w", "time_intervals": [{"weekdays": ["monday"], "months": [1]}]}]},
}
_TEXTS = st.sampled_from(
    ["", "a", "${labels.x}", "${", "$$", "{a=b}", "> 5", "5m", "1 per 1h", "30%", "name", "\u0000"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | _TEXTS | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_TEXTS | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in below for place in places(item, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return changed


def survives(files: dict[str, Any]) -> None:
    # JSON is YAML; some control characters are not, and are faults like any other
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in files.items()}
    found: tuple[PolicyError, ...] = ()
    try:
        compile_set(texts, VOCABULARY)
    except PolicyErrors as errors:
        found = errors.errors
    for error in found:
        assert error.file in files
        assert error.line >= 1
        assert str(error).isprintable()


@given(st.data(), st.sampled_from(places(POLICY)), _VALUES)
def test_a_policy_with_anything_anywhere(data: st.DataObject, path: tuple[Any, ...], new: Any) -> None:
    changed = put(POLICY, path, new)
    if data.draw(st.booleans()):
        changed = put(changed, data.draw(st.sampled_from(places(changed))), data.draw(_VALUES))
    survives({"a.yaml": changed})


@given(st.data(), st.sampled_from(sorted(SPECIAL)), _VALUES)
def test_a_special_file_with_anything_anywhere(data: st.DataObject, name: str, new: Any) -> None:
    survives(SPECIAL | {name: put(SPECIAL[name], data.draw(st.sampled_from(places(SPECIAL[name]))), new)})
