"""How far the frameworks' elementwise functions are from the exact values, in unit roundoffs.

    python benchmarks/elementwise_errors.py [--framework NAME]... [--points N] [--seed S]

Each framework runs in a process of its own, on a seeded grid: the normal range of the function, its tails,
and tiny arguments. The reference is float64 for float32 (SciPy's erf) and mpmath, with 50 digits, for
float64. Errors are given relative to the exact value f and absolutely, both in unit roundoffs
u (2**-24, 2**-53), each with the argument at which it is greatest. Where an error is below the smallest normal
number it is not counted, since frameworks flush to zero.

The second table has, for each function, constants k and a for which every error of every framework is at
most 8 (k u |f| + a u): the least a for which a k of at most 1 is enough, and then the least k. Beside them is
the k that would be needed if a were 0.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

FUNCTIONS = (
    *("exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "sin", "cos"),
    *("softplus", "log_sigmoid", "elu", "silu", "mish", "softsign", "hard_sigmoid", "hard_silu"),
)
ACTIVATIONS = FUNCTIONS[11:]  # each by the framework's function of this name
DTYPES = ("float32", "float64")
ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53}
MPMATH_POINTS = 3000
# What is a convention (CONVENTIONS.toml) and no rounding stays out of the constants.
CONVENTIONS = {("softplus", "torch", "float64"): "softplus.threshold: linear above 20, off by 2e-9"}

Array = NDArray[Any]


def grid(function: str, dtype: str, points: int, seed: int) -> Array:
    """Arguments in `dtype`, ascending: a third uniform in the range where the function is not flat, two
    thirds with uniform exponents down to the smallest normal number."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    lowest, highest = math.log(float(info.tiny)), math.log(float(info.max))
    positive = function in ("log", "sqrt", "rsqrt")
    reach = {"exp": -lowest, "expm1": -lowest, "sigmoid": -lowest, "sin": 1e4, "cos": 1e4}
    reach |= dict.fromkeys(ACTIVATIONS, -lowest)
    far = reach.get(function, 30.0)
    near = {"exp": 5.0, "sin": 30.0, "cos": 30.0}.get(function, 20.0)
    third = points // 3
    exponents = rng.uniform(lowest, highest - 1 if positive or function == "log1p" else math.log(far), third)
    tiny = np.exp(exponents)
    to_one = np.exp(rng.uniform(math.log(info.eps), 0, third))
    if positive:
        around_one = 1 + rng.choice([-0.5, 0.5], third) * to_one
        x = np.concatenate([tiny, rng.uniform(0.5, 2.0, third), around_one])
    else:
        signs = rng.choice([-1.0, 1.0], third)
        if function == "log1p":
            signs[tiny >= 1] = 1.0
            middle = rng.uniform(-1 + float(info.eps), 4.0, third)
            last = -1 + to_one
        else:
            middle = rng.uniform(-near, near, third)
            last = rng.uniform(-far, far, third)
        x = np.concatenate([signs * tiny, middle, last])
    x = np.unique(x.astype(dtype))
    if function in ("exp", "expm1"):
        x = x[x < highest - 1]
    return x[x > -1] if function == "log1p" else x


def exact_from_float64(function: str, x: Array) -> Array:
    """The function in float64, by a form that is accurate to a few of its roundoffs."""
    from scipy.special import erf

    decay = np.exp(-np.abs(x))
    forms: dict[str, Callable[[], Array]] = {
        "rsqrt": lambda: 1 / np.sqrt(x),
        "sigmoid": lambda: np.where(x >= 0, 1, decay) / (1 + decay),
        "erf": lambda: erf(x),
        "softplus": lambda: np.maximum(x, 0) + np.log1p(decay),
        "log_sigmoid": lambda: np.minimum(x, 0) - np.log1p(decay),
        "elu": lambda: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "silu": lambda: x * np.where(x >= 0, 1, decay) / (1 + decay),
        "mish": lambda: x * np.tanh(np.maximum(x, 0) + np.log1p(decay)),
        "softsign": lambda: x / (1 + np.abs(x)),
        "hard_sigmoid": lambda: np.clip((x + 3) / 6, 0, 1),
        "hard_silu": lambda: x * np.clip((x + 3) / 6, 0, 1),
    }
    return forms[function]() if function in forms else getattr(np, function)(x)


def exact_from_mpmath(function: str, x: Array) -> list[Any]:
    """The function with 50 digits, as mpmath's numbers."""
    import mpmath

    mpmath.mp.dps = 50
    one = mpmath.mpf(1)
    forms: dict[str, Callable[[Any], Any]] = {
        "rsqrt": lambda v: one / mpmath.sqrt(v),
        "sigmoid": lambda v: one / (one + mpmath.exp(-v)),
        "softplus": lambda v: mpmath.log1p(mpmath.exp(v)),
        "log_sigmoid": lambda v: -mpmath.log1p(mpmath.exp(-v)),
        "elu": lambda v: v if v > 0 else mpmath.expm1(v),
        "silu": lambda v: v / (one + mpmath.exp(-v)),
        "mish": lambda v: v * mpmath.tanh(mpmath.log1p(mpmath.exp(v))),
        "softsign": lambda v: v / (one + abs(v)),
        "hard_sigmoid": lambda v: min(max((v + 3) / 6, 0 * one), one),
        "hard_silu": lambda v: v * min(max((v + 3) / 6, 0 * one), one),
    }
    form = forms.get(function) or getattr(mpmath, function)
    return [form(mpmath.mpf(float(v))) for v in x]


def numpy_functions(dtype: str) -> dict[str, Callable[[Array], Array]]:
    return {n: getattr(np, n) for n in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos")}


def torch_functions(dtype: str) -> dict[str, Callable[[Array], Array]]:
    import torch

    functional = torch.nn.functional
    forms = {n: getattr(torch, n) for n in FUNCTIONS if n not in ACTIVATIONS}
    forms |= {n: getattr(functional, {"log_sigmoid": "logsigmoid", "hard_sigmoid": "hardsigmoid",
                                      "hard_silu": "hardswish"}.get(n, n)) for n in ACTIVATIONS}  # fmt: skip
    return {n: lambda x, f=f: f(torch.from_numpy(x)).numpy() for n, f in forms.items()}


def jax_functions(dtype: str) -> dict[str, Callable[[Array], Array]]:
    import jax

    jax.config.update("jax_enable_x64", True)
    forms = {n: getattr(jax.numpy, n) for n in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos")}
    forms |= {"rsqrt": jax.lax.rsqrt, "erf": jax.lax.erf, "sigmoid": jax.nn.sigmoid}
    names = {"softsign": "soft_sign"}
    forms |= {n: getattr(jax.nn, names.get(n, n)) for n in ACTIVATIONS}
    return {n: lambda x, f=f: np.asarray(f(x)) for n, f in forms.items()}


def tensorflow_functions(dtype: str) -> dict[str, Callable[[Array], Array]]:
    import tensorflow as tf

    forms = {n: getattr(tf.math, n) for n in FUNCTIONS if hasattr(tf.math, n)}
    forms |= {n: getattr(tf.nn, n) for n in ("elu", "silu")}
    return {n: lambda x, f=f: f(tf.constant(x)).numpy() for n, f in forms.items()}


def onnxruntime_functions(dtype: str) -> dict[str, Callable[[Array], Array]]:
    import onnx
    import onnxruntime
    from onnx import helper

    kind = onnx.TensorProto.FLOAT if dtype == "float32" else onnx.TensorProto.DOUBLE
    made: dict[str, Callable[[Array], Array]] = {}
    operators = {n: n.capitalize() for n in ("exp", "log", "sqrt", "tanh", "sigmoid", "erf", "sin", "cos")}
    operators |= {n: n.capitalize() for n in ("softplus", "elu", "mish", "softsign")}
    operators |= {"silu": "Swish", "hard_silu": "HardSwish", "hard_sigmoid": "HardSigmoid"}
    options = {"hard_sigmoid": {"alpha": 1 / 6, "beta": 0.5}}
    for function, name in operators.items():
        ends = [helper.make_tensor_value_info(n, kind, [None]) for n in "xy"]
        node = helper.make_node(name, ["x"], ["y"], **options.get(function, {}))
        graph = helper.make_graph([node], name, ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented:
            continue  # no kernel for this dtype: the table has no row for it
        made[function] = lambda x, s=session: s.run(None, {"x": x})[0]
    return made


IMPLEMENTATIONS = {
    "numpy": numpy_functions,
    "torch": torch_functions,
    "jax": jax_functions,
    "tensorflow": tensorflow_functions,
    "onnxruntime": onnxruntime_functions,
}


def measured(x: Array, observed: Array, exact: Any, dtype: str) -> dict[str, Any]:
    """The greatest errors in unit roundoffs, and the points (|f|, error) that no other point outdoes."""
    u, smallest = ROUNDOFF[dtype], float(np.finfo(dtype).tiny)
    if dtype == "float32":
        error = np.abs(observed.astype(np.float64) - exact)
        size = np.abs(exact)
    else:
        # The difference is exact in mpmath; its own size then needs few digits.
        pairs = zip(observed, exact, strict=True)
        error = np.array([float(abs(float(o) - e)) if math.isfinite(o) else math.inf for o, e in pairs])
        size = np.array([float(abs(e)) for e in exact])
    error[np.isnan(error)] = math.inf
    error[error <= smallest] = 0
    relative = error / np.maximum(size, smallest)
    worst, farthest = int(np.argmax(relative)), int(np.argmax(error))
    front: list[tuple[float, float]] = []
    size = np.maximum(size, smallest)
    for i in np.argsort(size, kind="stable"):
        if error[i] > (front[-1][1] if front else 0.0):
            front.append((float(size[i]), float(error[i])))
    return {
        "relative": relative[worst] / u, "relative_at": float(x[worst]),
        "absolute": error[farthest] / u, "absolute_at": float(x[farthest]),
        "front": [(f, e / u) for f, e in front],
    }  # fmt: skip


def measure(framework: str, points: int, seed: int) -> list[dict[str, Any]]:
    """A row for each function and dtype that the framework has."""
    rows = []
    for dtype in DTYPES:
        functions = IMPLEMENTATIONS[framework](dtype)
        for function in FUNCTIONS:
            if function not in functions:
                continue
            x = grid(function, dtype, points if dtype == "float32" else MPMATH_POINTS, seed)
            observed = np.asarray(functions[function](x))
            if observed.dtype != dtype:
                raise TypeError(f"{framework} {function} of {dtype} gave {observed.dtype}")
            with np.errstate(under="ignore", over="ignore"):
                of = exact_from_float64 if dtype == "float32" else exact_from_mpmath
                exact = of(function, x.astype(np.float64))
                rows.append({"function": function, "framework": framework, "dtype": dtype}
                            | measured(x, observed, exact, dtype))  # fmt: skip
    return rows


def constants(front: list[tuple[float, float]]) -> tuple[float, float, float]:
    """(k where a = 0, then k and a as the module says), for points (|f|, error in u)."""
    size, error = np.array(front).T
    error = error / 8
    alone = float(np.max(error / size))
    a = max(0.0, float(np.max(error - size)))
    return alone, float(np.max((error - a) / size)), a


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--framework", action="append", choices=tuple(IMPLEMENTATIONS))
    parser.add_argument("--points", type=int, default=300_000, help=f"for float32; float64 has {MPMATH_POINTS}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rows", choices=tuple(IMPLEMENTATIONS), help=argparse.SUPPRESS
    )  # what a process of its own is asked for
    options = parser.parse_args()
    if options.rows:
        print(json.dumps(measure(options.rows, options.points, options.seed)))
        return
    rows: list[dict[str, Any]] = []
    for framework in options.framework or tuple(IMPLEMENTATIONS):
        if find_spec(framework) is None:
            print(f"{framework} is not installed")
            continue
        sizes = ["--points", str(options.points), "--seed", str(options.seed)]
        command = [sys.executable, __file__, "--rows", framework, *sizes]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        rows += json.loads(answer.splitlines()[-1])
    show(rows)


def show(rows: list[dict[str, Any]]) -> None:
    """Print both tables."""
    rows.sort(key=lambda r: (FUNCTIONS.index(r["function"]), r["dtype"], list(IMPLEMENTATIONS).index(r["framework"])))
    print(
        f"{'function':12} {'framework':12} {'dtype':8} {'max relative/u':>15}{'at':>13}",
        f"{'max absolute/u':>15}{'at':>13}",
    )
    for r in rows:
        key = (r["function"], r["framework"], r["dtype"])
        figures = [f"{r[kind]:15.4g}{r[f'{kind}_at']:13.5g}" for kind in ("relative", "absolute")]
        print(f"{key[0]:12} {key[1]:12} {key[2]:8}", *figures, CONVENTIONS.get(key, ""))
    print(f"\n{'function':12} {'dtype':8} {'k, if a = 0':>12} {'k':>9} {'a':>9}")
    for function in FUNCTIONS:
        for dtypes in (*((d,) for d in DTYPES), DTYPES):
            counted = [
                r
                for r in rows
                if r["function"] == function
                and r["dtype"] in dtypes
                and (function, r["framework"], r["dtype"]) not in CONVENTIONS
            ]
            if counted:
                alone, k, a = constants([tuple(point) for r in counted for point in r["front"]])
                print(f"{function:12} {dtypes[0] if len(dtypes) == 1 else 'both':8} {alone:12.3g} {k:9.3g} {a:9.3g}")


if __name__ == "__main__":
    main()
