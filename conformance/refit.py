"""Weights found again from what a step gave, where the step is linear in them: `weights.mismatch`.

Where a step's structure is right and its weights are others, some weights reproduce its values. They are looked
for by least squares, in a design matrix that the step's own function gives when it is fed unit weights. It must
be overdetermined, or the fit could not fail and would say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from conformance.figures import compare
from conformance.flow import carry
from conformance.rounding import RoundedArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.layer import Step

F = TypeVar("F", bound=Callable[..., Any])

_LARGEST = 50_000_000  # elements of a design matrix, beyond which no fit is tried


@dataclass(frozen=True)
class Linear:
    """In which of its parameters a step is linear: `kernels`, whose last axis is the step's and which may have
    any number of columns, and `vectors`, with a weight for each column. `groups` names the parameter that says
    how many equal blocks of columns have kernels on inputs of their own."""

    kernels: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    groups: str | None = None


def linear_in(*kernels: str, vectors: tuple[str, ...] = (), groups: str | None = None) -> Callable[[F], F]:
    """Declares that each column of a step (its last axis) is linear in that column of these parameters."""

    def declare(function: F) -> F:
        function.__dict__["linear"] = Linear(kernels, vectors, groups)
        return function

    return declare


def refitted(
    step: Step, values: Mapping[str, Any], before: Step | None, expected: RoundedArray, observed: NDArray[Any]
) -> bool:
    """Whether other weights of `step` give what was `observed`, within the tolerances that they bring with them.

    `before` is a step that `step` reads and that was not observed: its kernel is fitted too, so that a product
    and its bias that are one operation are one fit.
    """
    linear: Linear | None = step.function.__dict__.get("linear")
    if linear is None or observed.ndim == 0 or observed.size == 0 or not np.isfinite(observed).all():
        return False
    plain = {n: v.value if isinstance(v, RoundedArray) else v for n, v in values.items()}
    seen, fit = np.asarray(observed, np.float64), expected
    try:
        with np.errstate(all="ignore"):
            for _ in range(2):  # the second time with the tolerances that the weights of the first bring with them
                weights, known = _fitted(step, linear, plain, before, seen, fit.tolerance)
                if not weights:
                    return False
                given = {**values, **{name: carry(array, expected.model) for name, array in weights.items()}}
                if before is not None:
                    given[before.name] = before(given)
                fit = step(given)
    except (ValueError, IndexError):  # the step does not take unit weights of this size: nothing can be fitted
        return False
    model = expected.model
    deviations = [known / (model.multiple * model.both_sides)] + ([] if fit.deviation is None else [fit.deviation])
    return compare(RoundedArray(fit.value, model.join(deviations), model), observed).conforms


def _fitted(
    step: Step,
    linear: Linear,
    values: Mapping[str, Any],
    before: Step | None,
    observed: NDArray[np.float64],
    tolerance: NDArray[np.float64],
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """The weights, by name, that give the values nearest to those `observed`, none where some give any values; and
    how far off the values that they give may be, since they were found from values that are known so well only.

    That is the tolerance of a row times the root of its leverage (Draper and Smith, Applied Regression Analysis,
    3rd ed., section 8.1), which is one at the most.
    """
    columns = _columns(step, linear, values, observed)
    rows = observed.size // columns
    behind: Linear | None = before.function.__dict__.get("linear") if before is not None else None
    if linear.kernels or before is None or behind is None:
        kernels = [(step, linear, step.reads[k]) for k in linear.kernels]
    else:
        kernels = [(before, behind, before.reads[k]) for k in behind.kernels]
    kernels = [k for k in kernels if values.get(k[2]) is not None]
    vectors = {step.reads[v]: _shape(values.get(step.reads[v]), observed) for v in linear.vectors}
    sizes = [math.prod(values[name].shape[:-1]) for *_, name in kernels]
    unknowns = sum(sizes) + len(vectors)
    if unknowns == 0 or rows <= unknowns or rows * unknowns > _LARGEST:
        return {}, tolerance
    shared: list[NDArray[np.float64]] = []  # each `group row weight`
    zero: dict[str, Any] = {name: np.zeros(shape) for name, shape in vectors.items()}
    for of, its, name in kernels:
        groups = 1 if its.groups is None else int(values[of.reads[its.groups]])
        unit = {**values, **dict.fromkeys(vectors), name: _unit(values[name], groups)}
        if of is not step:
            unit[of.name] = of(unit)
            zero[of.name] = np.zeros_like(values[of.name])
        shared.append(_by_group(step(unit), groups))
        zero[name] = np.zeros_like(values[name])
    offset = np.broadcast_to(step({**values, **zero}), observed.shape)
    own: list[NDArray[np.float64]] = []  # each `row column`
    for name, shape in vectors.items():
        response = step({**values, **zero, name: np.ones(shape)}) - offset
        own.append(np.broadcast_to(response, observed.shape).reshape(rows, columns))
    target = (observed - offset).reshape(rows, columns)
    allowed = np.maximum(tolerance.reshape(rows, columns), np.finfo(np.float64).tiny)
    found, known = np.empty((unknowns, columns)), np.empty((rows, columns))
    for group, block in enumerate(np.split(np.arange(columns), max((len(a) for a in shared), default=1))):
        common = [a[group] for a in shared]
        same = all(np.ptp(a, axis=1).max(initial=0.0) == 0 for a in own)  # all columns have one design
        for part in [block] if same else block[:, None]:
            matrix = np.column_stack([*common, *(a[:, part[:1]] for a in own)])
            unit = allowed[:, part].mean(axis=1, keepdims=True)  # rows count by how well they are known
            found[:, part], leverage = _solved(matrix / unit, target[:, part] / unit)
            known[:, part] = unit * np.sqrt(leverage)[:, None]
    result: dict[str, NDArray[np.float64]] = {}
    pieces = np.split(found, np.cumsum([*sizes, *(1 for _ in vectors)])[:-1])
    for (*_, name), piece in zip(kernels, pieces, strict=False):
        result[name] = piece.reshape(*values[name].shape[:-1], columns)
    for (name, shape), piece in zip(vectors.items(), pieces[len(kernels) :], strict=True):
        result[name] = piece.reshape(shape)
    return result, known.reshape(observed.shape)


def _columns(step: Step, linear: Linear, values: Mapping[str, Any], observed: NDArray[np.float64]) -> int:
    """How many columns there are: those of the last axis, or of the last axes that a vector has."""
    widths = (math.prod(_shape(values.get(step.reads[v]), observed)) for v in linear.vectors)
    return int(max([observed.shape[-1], *widths]))


def _shape(vector: NDArray[np.float64] | None, observed: NDArray[np.float64]) -> tuple[int, ...]:
    return observed.shape[-1:] if vector is None else vector.shape


def _unit(kernel: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """A kernel whose columns are one weight each, for every group: `*axes group*weight`."""
    size = math.prod(kernel.shape[:-1])
    return np.tile(np.eye(size).reshape(*kernel.shape[:-1], size), groups)


def _by_group(response: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """`*rows group*weight` as `group row weight`."""
    return np.moveaxis(np.reshape(response, (-1, groups, response.shape[-1] // groups)), 1, 0)


def _solved(
    matrix: NDArray[np.float64], target: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least squares with columns of like size, and once more for what rounding left over; and each row's leverage."""
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1.0
    left, singular, right = np.linalg.svd(matrix / size, full_matrices=False)
    kept = singular > singular.max(initial=0.0) * max(matrix.shape) * np.finfo(np.float64).eps
    left, singular, right = left[:, kept], singular[kept], right[kept]
    weights = right.T @ (left.T @ target / singular[:, None])
    weights += right.T @ (left.T @ (target - matrix / size @ weights) / singular[:, None])
    return np.asarray(weights / size[:, None]), np.asarray(np.sum(np.square(left), axis=1))
