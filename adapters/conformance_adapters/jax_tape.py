"""The tape of a JAX function: its jaxpr, evaluated equation by equation.

Nested jaxprs (`jit`, `cond`, `while`, custom derivatives, rematerialisation) are gone into, and a `scan` is
taken apart, one iteration after another. Each equation runs as one compiled operation, so nothing is fused
that the function's own Python does not fuse.

Which entries an operation read follows from the jaxpr's variables: beside its array, each value carries what it
was made of. What the function closes over counts as weights where it also takes arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.trace import Entry
from conformance_adapters.provenance import Source, joined

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
    closed_over = Source(fixed=bool(leaves))
    outputs = recorder.evaluate(
        closed.jaxpr,
        [_Value(c, closed_over) for c in closed.consts],
        [_Value(leaf, Source(fixed=False)) for leaf in leaves],
        "",
    )
    arrays = [jax.numpy.asarray(o) if isinstance(o, int | float | np.generic) else o for o in map(_array, outputs)]
    return jax.tree.unflatten(jax.tree.structure(shape), arrays), recorder.entries


def _open(body: Any) -> Any:
    return getattr(body, "jaxpr", body)


@dataclass(frozen=True)
class _Value:
    """An array, and what it was made of."""

    array: Any
    source: Source


def _array(value: _Value) -> Any:
    return value.array


def _made_of(values: Iterable[_Value]) -> Source:
    return joined(v.source for v in values)


class _Recorder:
    """Evaluates jaxprs and keeps what they compute."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def evaluate(self, jaxpr: Any, constants: Sequence[_Value], arguments: Sequence[_Value], path: str) -> list[_Value]:
        """The outputs of an open `jaxpr`. `path` goes before the names of its operations."""
        values: dict[Any, _Value] = {}
        values.update(zip(jaxpr.constvars, constants, strict=True))
        values.update(zip(jaxpr.invars, arguments, strict=True))

        def value(atom: Any) -> _Value:
            # Only a literal has a value of its own.
            return _Value(atom.val, Source()) if hasattr(atom, "val") else values[atom]

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

    def apply(self, equation: Any, inputs: list[_Value], path: str) -> Sequence[_Value]:
        """The results of one equation."""
        name, params = equation.primitive.name, equation.params
        if name == "scan":
            return self.scan(equation, inputs, path)
        if name == "while":
            return self.loop(params, inputs, path)
        if name == "cond":
            branch = min(max(int(inputs[0].array), 0), len(params["branches"]) - 1)
            return self.enter(params["branches"][branch], inputs[1:], f"{path}cond[{branch}]/")
        if name in _CALLS:
            body = next(params[key] for key in _BODY if key in params)
            called = params.get("name") or getattr(_open(body).debug_info, "func_name", None)
            return self.enter(body, inputs, f"{path}{_CALLS[name]}:{called}/" if called else f"{path}{_CALLS[name]}/")
        result = self.bind(equation.primitive, [v.array for v in inputs], params)
        source = _made_of(inputs)
        return [
            self.keep(path + name, r, source) for r in (result if equation.primitive.multiple_results else [result])
        ]

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

    def enter(self, body: Any, inputs: Sequence[_Value], path: str) -> list[_Value]:
        """The outputs of a nested jaxpr, closed or open."""
        constants = [_Value(c, Source()) for c in getattr(body, "consts", ())]
        return self.evaluate(_open(body), constants, inputs, path)

    def loop(self, params: Any, inputs: list[_Value], path: str) -> list[_Value]:
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
            if not np.any(holds.array):
                return carry
            after = self.enter(params["body_jaxpr"], [*body, *carry], f"{path}while[{step}]/")
            if held := np.ndim(holds.array):
                after = [
                    _Value(
                        jnp.where(
                            jnp.reshape(holds.array, holds.array.shape + (1,) * (jnp.ndim(new.array) - held)),
                            new.array,
                            old.array,
                        ),
                        _made_of((holds, new, old)),
                    )
                    for new, old in zip(after, carry, strict=True)
                ]
            carry, step = after, step + 1

    def scan(self, equation: Any, inputs: list[_Value], path: str) -> list[_Value]:
        """A `scan`, one iteration after another, and then its carry and its stacked outputs."""
        import jax.numpy as jnp

        params = equation.params
        constants, length = params["num_consts"], params["length"]
        first = constants + params["num_carry"]
        carry, sequences = inputs[constants:first], inputs[first:]
        stacks: list[list[Any]] = [[None] * length for _ in equation.outvars[params["num_carry"] :]]
        for i in reversed(range(length)) if params["reverse"] else range(length):
            now = [_Value(s.array[i], s.source) for s in sequences]
            results = self.enter(params["jaxpr"], [*inputs[:constants], *carry, *now], f"{path}scan[{i}]/")
            carry = results[: params["num_carry"]]
            for stack, result in zip(stacks, results[params["num_carry"] :], strict=True):
                stack[i] = result
        made = [
            _Value(jnp.stack([v.array for v in stack]), _made_of(stack))
            if stack
            else _Value(jnp.zeros(variable.aval.shape, variable.aval.dtype), Source())
            for stack, variable in zip(stacks, equation.outvars[params["num_carry"] :], strict=True)
        ]
        return [self.keep(f"{path}scan", v.array, v.source) for v in (*carry, *made)]

    def keep(self, operation: str, result: Any, source: Source) -> _Value:
        """A result that is made of `source`; a floating-point array is appended to the tape."""
        import jax.numpy as jnp

        dtype = getattr(result, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            return _Value(result, source)
        self.entries.append(Entry(operation, to_numpy(result), None, source.positions, source.fixed))
        return _Value(result, Source((len(self.entries) - 1,), source.fixed))
