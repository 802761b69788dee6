"""The tape of a JAX function: its jaxpr, evaluated equation by equation.

Nested jaxprs (`jit`, `cond`, `while`, custom derivatives, rematerialisation) are gone into, and a `scan` is
taken apart, one iteration after another. Each equation runs as one compiled operation, so nothing is fused
that the function's own Python does not fuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.trace import Entry

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BODY = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where a primitive that only calls keeps what it calls
_CALLS = {
    "jit": "jit",
    "pjit": "jit",
    "xla_call": "jit",
    "core_call": "call",
    "closed_call": "call",
    "custom_jvp_call": "custom_jvp",
    "custom_vjp_call": "custom_vjp",
    "custom_vjp_call_jaxpr": "custom_vjp",
    "remat": "remat",
    "remat2": "remat",
    "checkpoint": "remat",
}


def to_numpy(array: Any) -> NDArray[Any]:
    """A copy of a JAX array in its own dtype, or in float32 where NumPy has no such format (bfloat16)."""
    made = np.array(array)
    return made if made.dtype.kind in "biufc" else made.astype(np.float32)


def record(function: Callable[..., Any], *arguments: Any) -> tuple[Any, list[Entry]]:
    """Call `function` and watch: its output, and every floating-point array that it computed, in order.

    `arguments` are pytrees of arrays; the function may also close over arrays and take none. An entry is
    named by the primitive and the calls around it, as in `jit:softmax/exp` or `scan[2]/dot_general`.
    """
    import jax

    closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    # A Python number is traced as a weakly typed array; it gets the dtype that the trace gave it.
    leaves = [
        leaf if hasattr(leaf, "dtype") else np.asarray(leaf, variable.aval.dtype)
        for leaf, variable in zip(jax.tree.leaves(arguments), closed.jaxpr.invars, strict=True)
    ]
    recorder = _Recorder()
    outputs = recorder.evaluate(closed.jaxpr, closed.consts, leaves, "")
    arrays = [jax.numpy.asarray(o) if isinstance(o, int | float | np.generic) else o for o in outputs]
    return jax.tree.unflatten(jax.tree.structure(shape), arrays), recorder.entries


def _open(body: Any) -> Any:
    return getattr(body, "jaxpr", body)


class _Recorder:
    """Evaluates jaxprs and keeps what they compute."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def evaluate(self, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any], path: str) -> list[Any]:
        """The outputs of an open `jaxpr`. `path` goes before the names of its operations."""
        values: dict[Any, Any] = {}
        values.update(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def value(atom: Any) -> Any:
            return atom.val if hasattr(atom, "val") else values[atom]  # only a literal has a value of its own

        last_use = {atom: i for i, e in enumerate(jaxpr.eqns) for atom in e.invars if not hasattr(atom, "val")}
        needed = {atom for atom in jaxpr.outvars if not hasattr(atom, "val")}
        for i, equation in enumerate(jaxpr.eqns):
            with equation.ctx.manager:
                results = self.apply(equation, [value(a) for a in equation.invars], path)
            values.update(zip(equation.outvars, results, strict=True))
            for atom in (*equation.invars, *equation.outvars):
                if not hasattr(atom, "val") and atom not in needed and last_use.get(atom, i) <= i:
                    values.pop(atom, None)
        return [value(a) for a in jaxpr.outvars]

    def apply(self, equation: Any, inputs: list[Any], path: str) -> Sequence[Any]:
        """The results of one equation."""
        name, params = equation.primitive.name, equation.params
        if name == "scan":
            return self.scan(equation, inputs, path)
        if name == "while":
            return self.loop(params, inputs, path)
        if name == "cond":
            branch = min(max(int(inputs[0]), 0), len(params["branches"]) - 1)
            return self.enter(params["branches"][branch], inputs[1:], f"{path}cond[{branch}]/")
        if name in _CALLS:
            body = next(params[key] for key in _BODY if key in params)
            called = params.get("name") or getattr(_open(body).debug_info, "func_name", None)
            return self.enter(body, inputs, f"{path}{_CALLS[name]}:{called}/" if called else f"{path}{_CALLS[name]}/")
        result = self.bind(equation.primitive, inputs, params)
        results = result if equation.primitive.multiple_results else [result]
        for r in results:
            self.keep(path + name, r)
        return results

    def bind(self, primitive: Any, inputs: list[Any], params: Any) -> Any:
        """What a primitive gives, as one compiled operation."""
        bound = primitive.get_bind_params(params)
        functions, bound = bound if isinstance(bound, tuple) else ((), bound)
        try:
            return primitive.bind(*functions, *inputs, **bound)
        except ValueError:
            # A product by an algorithm that this device lacks (F16_F16_F32 on a CPU) is found out only when
            # it is compiled. jax.nn.dot_product_attention then falls back to the default, which tracing hides.
            if primitive.name != "dot_general" or bound.get("precision") is None:
                raise
            return primitive.bind(*functions, *inputs, **{**bound, "precision": None})

    def enter(self, body: Any, inputs: Sequence[Any], path: str) -> list[Any]:
        """The outputs of a nested jaxpr, closed or open."""
        return self.evaluate(_open(body), getattr(body, "consts", ()), inputs, path)

    def loop(self, params: Any, inputs: list[Any], path: str) -> list[Any]:
        """A `while`: the body for as long as the condition holds.

        Under `vmap` the condition is an array: the loop runs while it holds anywhere, and where it does not
        hold any more the carry stays.
        """
        import jax.numpy as jnp

        of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
        condition, body = inputs[:of_condition], inputs[of_condition : of_condition + of_body]
        carry = inputs[of_condition + of_body :]
        step = 0
        while True:
            holds = self.enter(params["cond_jaxpr"], [*condition, *carry], f"{path}while[{step}]:condition/")[0]
            if not np.any(holds):
                return carry
            after = self.enter(params["body_jaxpr"], [*body, *carry], f"{path}while[{step}]/")
            if np.ndim(holds):
                after = [
                    jnp.where(jnp.reshape(holds, holds.shape + (1,) * (jnp.ndim(new) - holds.ndim)), new, old)
                    for new, old in zip(after, carry, strict=True)
                ]
            carry, step = after, step + 1

    def scan(self, equation: Any, inputs: list[Any], path: str) -> list[Any]:
        """A `scan`, one iteration after another, and then its carry and its stacked outputs."""
        import jax.numpy as jnp

        params = equation.params
        constants, length = params["num_consts"], params["length"]
        first = constants + params["num_carry"]
        carry, sequences = inputs[constants:first], inputs[first:]
        stacks: list[list[Any]] = [[None] * length for _ in equation.outvars[params["num_carry"] :]]
        for i in reversed(range(length)) if params["reverse"] else range(length):
            now = [s[i] for s in sequences]
            results = self.enter(params["jaxpr"], [*inputs[:constants], *carry, *now], f"{path}scan[{i}]/")
            carry = results[: params["num_carry"]]
            for stack, result in zip(stacks, results[params["num_carry"] :], strict=True):
                stack[i] = result
        made = [
            jnp.stack(stack) if stack else jnp.zeros(variable.aval.shape, variable.aval.dtype)
            for stack, variable in zip(stacks, equation.outvars[params["num_carry"] :], strict=True)
        ]
        for result in (*carry, *made):
            self.keep(f"{path}scan", result)
        return [*carry, *made]

    def keep(self, operation: str, result: Any) -> None:
        """Append a floating-point array to the tape."""
        import jax.numpy as jnp

        dtype = getattr(result, "dtype", None)
        if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
            self.entries.append(Entry(operation, to_numpy(result)))
