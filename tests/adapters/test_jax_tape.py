"""The tape of a JAX function: the function's own output, and what it computed on the way, in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from conformance_adapters.jax_tape import record

jax.config.update("jax_enable_x64", True)
X = jnp.asarray([0.5, -2.0, 3.0], jnp.float32)


@jax.custom_jvp
def cube(x):
    return x * x * x


@jax.custom_vjp
def halved(x):
    return x * 0.5


cube.defjvp(lambda primals, tangents: (cube(*primals), 3 * primals[0] ** 2 * tangents[0]))
halved.defvjp(lambda x: (halved(x), None), lambda _, g: (g * 0.5,))


def names(tape):
    return [e.operation for e in tape]


@pytest.mark.parametrize(
    "function",
    [
        jax.nn.softmax,
        jax.nn.relu,
        jax.nn.gelu,
        jax.nn.logsumexp,
        cube,
        halved,
        jax.checkpoint(jnp.sin),
        jax.grad(lambda x: jax.nn.softmax(x)[0] * cube(x)[1]),
        lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
        lambda x: lax.switch(7, [jnp.sin, jnp.cos, jnp.tanh], x),
        lambda x: lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 2), (0, x)),
        lambda x: lax.fori_loop(0, 3, lambda i, v: v * i, x),
        lambda x: lax.scan(lambda c, a: (c + a, c * a), x[0], x, reverse=True),
        lambda x: lax.scan(lambda c, a: (c, a), x[0], x[:0]),
        lambda x: lax.map(jnp.exp, x),
        jax.vmap(lambda v: lax.while_loop(lambda c: c < 8, lambda c: c * 2 + 10, v)),
        lambda x: {"number": 1.0, "same": (x,), "sum": x.sum()},
        lambda x: x * jax.random.normal(jax.random.key(0), (3,)),
        lambda x: jnp.linalg.solve(jnp.eye(3, dtype=x.dtype) + x[:, None] * x, x),
        lambda x: jnp.sort(x.astype(jnp.bfloat16)),
        lambda x: jnp.where(x > 0, x, jnp.nan),
    ],
)
def test_a_recorded_function_gives_what_it_gives_unrecorded(function):
    output, _ = record(function, X)
    expected = function(X)
    assert jax.tree.structure(output) == jax.tree.structure(expected)
    for mine, theirs in zip(jax.tree.leaves(output), jax.tree.leaves(expected), strict=True):
        assert jnp.asarray(mine).dtype == jnp.asarray(theirs).dtype
        mine, theirs = (np.asarray(v, np.float64) for v in (mine, theirs))
        assert np.array_equal(np.isnan(mine), np.isnan(theirs))
        # Compiled as a whole or in parts: a few roundings apart.
        assert np.nanmax(np.abs(mine - theirs), initial=0) <= 8 * 2.0**-24 * np.nanmax(np.abs(theirs), initial=1)


def test_entries_are_named_by_the_calls_around_them():
    @jax.jit
    def inner(x):
        return jnp.exp(x)

    def outer(x):
        return jax.jit(lambda y: inner(y) + jax.nn.relu(y))(x)

    _, tape = record(outer, X)
    assert names(tape) == [
        "jit:<lambda>/jit:inner/exp",
        "jit:<lambda>/custom_jvp:relu/jit:relu/max",
        "jit:<lambda>/add",
    ]
    assert np.array_equal(tape[1].array, [0.5, 0, 3])
    assert tape[0].array.dtype == np.float32


def test_a_scan_is_taken_apart():
    _, tape = record(lambda x: lax.scan(lambda c, a: (c * 2 + a, c), jnp.float32(1), x), X)
    carries = [e.array.item() for e in tape if e.operation.endswith("/add")]
    assert carries == [2.5, 3.0, 9.0]
    assert names(tape)[:2] == ["scan[0]/mul", "scan[0]/add"]
    assert [e.array.tolist() for e in tape if e.operation == "scan"] == [9.0, [1.0, 2.5, 3.0]]


def test_a_reversed_scan_walks_from_the_end():
    _, tape = record(lambda x: lax.scan(lambda c, a: (c + a, c), jnp.float32(0), x, reverse=True), X)
    assert [(e.operation, e.array.item()) for e in tape[:3]] == [
        ("scan[2]/add", 3.0), ("scan[1]/add", 1.0), ("scan[0]/add", 1.5)
    ]  # fmt: skip
    assert tape[-1].array.tolist() == [1.0, 3.0, 0.0]


def test_only_the_branch_and_the_rounds_that_run_are_recorded():
    _, tape = record(lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), X)
    assert names(tape)[-1] == "cond[1]/sin"
    _, tape = record(lambda x: lax.while_loop(lambda v: v[0] < 3, lambda v: v * 2, x), X)
    assert [n for n in names(tape) if n.endswith("/mul")] == ["while[0]/mul", "while[1]/mul", "while[2]/mul"]


def test_only_floating_point_arrays_are_kept_and_bfloat16_as_float32():
    _, tape = record(lambda x: (x.astype(jnp.bfloat16) * 3, jnp.argmax(x), x > 0), X)
    assert names(tape) == ["convert_element_type", "mul"]
    assert [e.array.dtype for e in tape] == [np.float32, np.float32]


def test_float32_stays_float32_under_x64_and_float64_is_had():
    _, tape = record(lambda x: jax.nn.gelu(x) * 2.5, X)
    assert {e.array.dtype for e in tape} == {np.dtype(np.float32)}
    _, tape = record(lambda x: jax.nn.gelu(x) * 2.5, X.astype(jnp.float64))
    assert {e.array.dtype for e in tape} == {np.dtype(np.float64)}


def test_a_closure_needs_no_arguments_and_arguments_are_pytrees():
    output, tape = record(lambda: X * 2)
    assert output.tolist() == [1, -4, 6]
    assert names(tape) == ["mul"]
    output, _ = record(lambda d, k: d["x"] * k, {"x": X}, 2.0)
    assert output.dtype == jnp.float32
    assert output.tolist() == [1, -4, 6]


def test_softmax_shows_its_steps():
    _, tape = record(jax.nn.softmax, X)
    x = np.asarray(X, np.float64)
    e = np.exp(x - x.max())
    for operation, expected in (("exp", e), ("div", e / e.sum())):
        arrays = [entry.array for entry in tape if entry.operation.split("/")[-1] == operation]
        assert any(np.abs(a - expected).max() <= 4 * 2.0**-24 for a in arrays)


def test_an_algorithm_that_the_device_lacks_falls_back_as_it_does_unrecorded():
    x = jnp.ones((1, 2, 1, 3), jnp.float16)
    output, _ = record(jax.nn.dot_product_attention, x, x, x)
    assert output.dtype == jnp.float16
    assert np.array_equal(output, jax.nn.dot_product_attention(x, x, x))


# -- what an operation read ---------------------------------------------------------------------------------------
def graph(function, *arguments):
    """Each operation by its primitive, with what it read."""
    return [(e.operation.split("/")[-1], e.reads) for e in record(function, *arguments)[1]]


def test_an_operation_reads_what_made_its_operands_through_masks_and_calls():
    def function(x):
        twice = x * 2
        masked = jnp.where(twice > 0, jax.jit(jnp.exp)(x), x)  # the mask is made of `twice`
        return masked + twice

    assert graph(function, X) == [
        ("mul", ()),
        ("exp", ()),
        ("select_n", (0, 1)),
        ("add", (0, 2)),
    ]


def test_a_scan_reads_its_carry_from_the_iteration_before():
    got = graph(lambda x: lax.scan(lambda c, a: (c * 2 + a, c), x[0] + 1, x * 3)[1], X)
    names = [name for name, _ in got]
    first, triple = names.index("add"), len(names) - 1 - names[::-1].index("mul")
    muls = [i for i, name in enumerate(names) if name == "mul"]
    triple, muls = muls[0], muls[1:]
    adds = [i for i, name in enumerate(names) if name == "add"][1:]
    assert [got[i][1] for i in muls] == [(first,), (adds[0],), (adds[1],)]
    assert [got[i][1] for i in adds] == [(triple, m) for m in muls]
    carry, stacked = [reads for name, reads in got if name == "scan"]
    assert (carry, stacked) == ((adds[2],), (first, adds[0], adds[1]))


def test_a_loop_reads_its_carry_from_the_round_before():
    got = graph(lambda x: lax.while_loop(lambda v: v[0] < 3, lambda v: v * 2, x + 0), X)
    muls = [reads for name, reads in got if name == "mul"]
    positions = [i for i, (name, _) in enumerate(got) if name == "mul"]
    assert muls[1:] == [(p,) for p in positions[:-1]]


def test_what_is_closed_over_beside_arguments_is_fixed():
    weight = jnp.ones((3, 3), jnp.float32)
    fixed = {e.operation: e.fixed for e in record(lambda x: x @ jnp.exp(weight), X)[1]}
    assert fixed == {"exp": True, "dot_general": False}
    assert [e.fixed for e in record(lambda: X * 2)[1]] == [False]
