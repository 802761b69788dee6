"""What the fixtures tell apart: for each layer and each variant of a convention, the fixture that shows it best.

DESIGN section 8: a fixture is only as good as what it can tell apart. A variant that no fixture separates
from the canonical layer by `ENOUGH` tolerances is one that a framework could have unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.conventions import Convention, of_layer
from conformance.errors import ConformanceError
from conformance.figures import compare
from conformance.fixture import Fixture, fixtures
from conformance.flow import Flow
from conformance.layers import get_layer, layer_names
from conformance.model import RoundingModel
from conformance.precision import PRECISIONS, Precision
from conformance.rounding import RoundedArray

ENOUGH = 10.0

# Numbers to try where a variant stands for any number: what frameworks and models have as their defaults.
_NUMBERS: Mapping[str, tuple[str, ...]] = {
    "attention.scale": ("0.125",),
    "lstm.forget-bias": ("0.5",),
    "norm.epsilon": ("0.001", "1e-06", "1e-12"),
    "additive.sharpness": ("0.5",),
    "rope.base": ("500000.0",),
    "sinusoidal.base": ("1000.0",),
    "leaky_relu.slope": ("0.3", "0.2", "0.01"),
    "elu.alpha": ("1.0",),
}

# What no values can tell, by layer and convention, with the reason.
_NOT_YET: Mapping[tuple[str, str], str] = {
    (layer, "rnn.bidirectional-merge"): "a sum of two directions has half the width, which tells it"
    for layer in ("lstm", "gru", "simple_rnn")
}

# Variants that no values can tell apart, with the reason.
_POOLS = [f"{kind}_pool{axes}d" for kind in ("max", "average") for axes in (1, 2, 3)]
_NO_VALUES: Mapping[tuple[str, str, str], str] = {
    **{(pool, "pool.ceil-mode", "ceil"): "its output has another size, which tells it" for pool in _POOLS},
    **{(pool, "pool.ceil-mode", "ceil-divisor"): "a maximum is divided by nothing" for pool in _POOLS[:3]},
    ("conv1d", "conv.kernel-layout", "transposed-spatial"): "one axis has none to be exchanged with",
}


@dataclass(frozen=True)
class Separation:
    """How well `fixture` separates `layer` under `convention = value` from the canonical layer, in `dtype`.

    `step` is the first step at which it shows, by `at_step` tolerances; `at_output` is the figure of the
    output, or of another step that nothing reads, as what a call leaves behind. Where no fixture shows it
    at all, `fixture` is None and `why` says so.
    """

    layer: str
    convention: str
    value: str
    fixture: str | None = None
    dtype: str = ""
    step: str = ""
    at_step: float = 0.0
    at_output: float = 0.0
    why: str = ""

    @property
    def tolerances(self) -> float:
        """The figure of the output where that is enough, else that of the step."""
        return self.at_output if self.at_output >= ENOUGH else max(self.at_step, self.at_output)

    @property
    def enough(self) -> bool:
        """Whether it is told apart by `ENOUGH` tolerances or more."""
        return self.tolerances >= ENOUGH


def separations(of: Iterable[Fixture] | None = None) -> list[Separation]:
    """The best separation of every variant of kind replay or weights, by layer and convention.

    `of` are the fixtures to choose among: all that are installed, where none are given. The figure is
    float32's, which is what most users compute in; float64's where float32 does not tell enough.
    """
    chosen = list(fixtures().values() if of is None else of)
    made: list[Separation] = []
    for layer in sorted(layer_names()):
        wanted = sorted(_variants(layer))
        if wanted:
            made += _of_layer(layer, wanted, [f for f in chosen if f.layer == layer])
    return made


def _variants(layer: str) -> Iterator[tuple[str, str, str]]:
    """Id, keyword and value of every variant that some fixture must tell apart."""
    for convention in of_layer(layer):
        if "*" in convention.layers:
            continue  # not of one layer: arithmetic, and weights that are simply others
        for variant in convention.variants:
            if variant.kind in ("replay", "weights"):
                for value in _values(convention, variant.value):
                    yield convention.id, convention.keyword, value


def _values(convention: Convention, value: str) -> tuple[str, ...]:
    return _NUMBERS.get(convention.id, (value,)) if value.startswith("<") else (value,)


def _of_layer(layer: str, wanted: list[tuple[str, str, str]], having: list[Fixture]) -> Iterator[Separation]:
    able = {keyword for step in get_layer(layer).steps.values() for keyword in step.conventions}
    best: dict[tuple[str, str], Separation] = {}
    for number_format in (PRECISIONS["float32"], PRECISIONS["float64"]):
        left = [w for w in wanted if w[1] in able and not ((at := best.get((w[0], w[2]))) and at.at_output >= ENOUGH)]
        for fixture in having if left else ():
            for found in _of_fixture(fixture, left, number_format):
                known = best.get((found.convention, found.value))
                if known is None or _rank(found) > _rank(known):
                    best[found.convention, found.value] = found
    for name, keyword, value in wanted:
        why = _NOT_YET.get((layer, name), "not in the oracle yet") if keyword not in able else "no fixture shows it"
        if keyword in able and value.startswith("<"):
            why = "no number to try"
        why = _NO_VALUES.get((layer, name, value), why)
        yield best.get((name, value)) or Separation(layer, name, value, why=why)


def _rank(found: Separation) -> tuple[float, float]:
    return found.at_output, found.at_step


def _of_fixture(fixture: Fixture, wanted: list[tuple[str, str, str]], number_format: Precision) -> Iterator[Separation]:
    """What `fixture` shows of the variants `wanted`."""
    inputs, weights = fixture.load()
    flow = Flow.bind(
        get_layer(fixture.layer, fixture.config),
        fixture.config,
        {n: number_format.round(a) for n, a in inputs.items()},
        {n: number_format.round(a) for n, a in weights.items()},
        where=f"fixture {fixture.id}",
    )
    canonical = [value for _, value in flow.run(RoundingModel(number_format))]
    for name, keyword, value in wanted:
        first = next((i for i, step in enumerate(flow.steps) if keyword in step.conventions), None)
        if first is None or value.startswith("<"):
            continue
        step, at_step, at_output = _shown(flow, canonical, first, {keyword: value})
        if at_step:
            yield Separation(fixture.layer, name, value, fixture.id, number_format.name, step, at_step, at_output)


def _shown(
    flow: Flow, canonical: list[RoundedArray], first: int, variant: Mapping[str, Any]
) -> tuple[str, float, float]:
    """The first step beyond its tolerance, and the figures there and at the output; no step where there is none.

    A variant that does not fit the sizes, or whose output has another size, is no silent error: whoever takes it
    is told so by the shapes, and such a fixture shows nothing.
    """
    step, at_step, at_end = "", 0.0, 0.0
    read = {name for following in flow.steps for name in following.reads.values()}
    try:
        with np.errstate(all="ignore"):
            for number, (at, value) in enumerate(flow.run(None, variant)):
                expected = canonical[number]
                if at.name == flow.output and np.shape(value) != expected.shape:
                    return "", 0.0, 0.0
                ratio = compare(expected, value).ratio if number >= first else 0.0
                at_end = max(at_end, ratio) if at.name not in read else at_end
                if ratio > 1 and not step:
                    step, at_step = at.name, ratio
    except ConformanceError:
        return "", 0.0, 0.0
    return step, at_step, at_end
