"""How inputs are given to a callable: by name where names are the canonical ones, else in their order."""

from __future__ import annotations

import pytest

from conformance.errors import ConformanceError
from conformance.subject import matched, one_tensor

STAND_INS = {"key_input": "query_input", "value_input": "key_input"}


@pytest.mark.parametrize(
    ("parameters", "required", "inputs", "args", "kwargs"),
    [
        (["query", "key"], 2, {"query": 1, "key": 2}, [], {"query": 1, "key": 2}),
        (["value", "key", "query"], 3, {"query": 1, "key": 2, "value": 3}, [], {"query": 1, "key": 2, "value": 3}),
        (["inputs"], 1, {"x": 1}, [1], {}),
        (["x", "mask"], 1, {"query_input": 1, "mask": 2}, [1], {"mask": 2}),
        (["x", "m"], 1, {"query_input": 1, "mask": 2}, [1, 2], {}),
        (["mask", "x"], 2, {"query_input": 1, "mask": 2}, [1, 2], {}),  # the name stands before what has none
        (["q", "k", "v"], 3, {"query_input": 1}, [1, 1, 1], {}),
        (["q", "k", "v", "mask"], 3, {"query_input": 1, "mask": 2}, [1, 1, 1], {"mask": 2}),
        (["q", "k", "v"], 3, {"query_input": 1, "key_input": 2}, [1, 2, 2], {}),
        (["query_input", "key_input", "mask"], 2, {"query_input": 1}, [], {"query_input": 1, "key_input": 1}),
        (["q", "kv"], 2, {"query_input": 1, "key_input": 2}, [1, 2], {}),
        ([], 0, {"x": 1}, [1], {}),  # a built-in whose signature nobody knows
    ],
)
def test_inputs_find_their_parameters(
    parameters: list[str], required: int, inputs: dict[str, int], args: list[int], kwargs: dict[str, int]
) -> None:
    assert matched(parameters, required, inputs, STAND_INS) == (args, kwargs)


def test_a_subject_without_a_tensor_says_so() -> None:
    assert one_tensor([3, 4], "it") == 3
    with pytest.raises(ConformanceError, match="it returned no tensor"):
        one_tensor([], "it")
