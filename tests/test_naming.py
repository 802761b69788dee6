"""What names of parameters say, in the names that models really have."""

from __future__ import annotations

import pytest

from conformance.naming import is_bias, packed, spoken_for

KERNELS = ("query_kernel", "key_kernel", "value_kernel", "output_kernel")


@pytest.mark.parametrize(
    ("path", "weight"),
    [
        ("self_attn.q_proj.weight", "query_kernel"),
        ("attention.self.query.weight", "query_kernel"),
        ("Wk", "key_kernel"),
        ("W_v", "value_kernel"),
        ("attn.to_out.0.weight", "output_kernel"),
        ("out_proj.weight", "output_kernel"),
        ("fc_o.kernel", "output_kernel"),
        ("attention.value.kernel", "value_kernel"),
        ("linearQ.weight", "query_kernel"),
    ],
)
def test_a_kernels_name_speaks_for_one_weight(path: str, weight: str) -> None:
    assert [w for w in KERNELS if spoken_for(path, w) == 2] == [weight]
    assert spoken_for(path, weight.replace("kernel", "bias")) == -1


@pytest.mark.parametrize("path", ["q_proj.bias", "b_q", "bq", "query.bias", "attn.query.beta"])
def test_a_bias_is_told_from_a_kernel(path: str) -> None:
    assert is_bias(path)
    assert spoken_for(path, "query_bias") == 2
    assert spoken_for(path, "query_kernel") == -1


@pytest.mark.parametrize("path", ["c_attn.weight", "attn.qkv.weight", "in_proj_weight", "attn.Wqkv.weight", "to_qkv"])
def test_a_packed_projection_is_known_and_speaks_for_no_part_alone(path: str) -> None:
    assert packed(path)
    assert not any(spoken_for(path, w) == 2 for w in KERNELS)


@pytest.mark.parametrize(
    ("kernel", "recurrent"), [("weight_ih_l0", "weight_hh_l0"), ("x2h.weight", "h2h.weight"), ("W", "U")]
)
def test_a_recurrent_kernel_is_told_from_that_of_the_input(kernel: str, recurrent: str) -> None:
    assert spoken_for(kernel, "kernel") > spoken_for(recurrent, "kernel")
    assert spoken_for(recurrent, "recurrent_kernel") > spoken_for(kernel, "recurrent_kernel")


def test_names_that_say_nothing_speak_for_nothing() -> None:
    assert [spoken_for("layers.2.weight", w) for w in KERNELS] == [0, 0, 0, 0]
