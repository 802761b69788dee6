"""The result of a run, as it is written to JSON and read by reports. DESIGN section 11 fixes the fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from conformance import __version__

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.figures import Figures
    from conformance.flow import Flow
    from conformance.judge import JudgedStep, Verdict

STATUSES = (
    "conforms",
    "diverges",
    "known-divergence",
    "stale-divergence",
    "uninformative",
    "inconclusive",
    "unsupported",
    "unavailable",
    "crashed",
    "timeout",
    "error",
)


class Deviation(msgspec.Struct, frozen=True):
    """The greatest error of a step. A number that is not finite is a string: JSON has no infinity."""

    ratio: float | str
    max_abs: float | str
    max_rel: float | str
    at: list[int]

    @property
    def tolerances(self) -> float:
        """`ratio` as a number."""
        return float(self.ratio)


class Location(msgspec.Struct, frozen=True):
    """Where on the tape a step was found, and how its axes stand there. Position -1 is the run's output
    itself, where no tensor of the tape holds it."""

    operation: str
    position: int
    axes: str


HISTOGRAM = tuple(10.0 ** (k / 2) for k in range(-6, 19))
"""The bounds of a histogram's classes, in tolerances: half decades, and one class below and above them all."""


class Sample(msgspec.Struct, frozen=True):
    """A window of a step. `oracle`, `observed` and `difference` (in tolerances) hold its elements, the last axis
    fastest; `start` and `size` tell where in the step's `shape` it is, an entry for each axis.

    `figure` names what `oracle` was computed from: `isolated`, the values observed before the step, or `accumulated`,
    the inputs. `histogram` counts every element of the step by the size of its difference, in the classes of HISTOGRAM.
    """

    figure: str
    shape: list[int]
    start: list[int]
    size: list[int]
    oracle: list[float | str]
    observed: list[float | str]
    difference: list[float | str]
    histogram: list[int]


class StepResult(msgspec.Struct, frozen=True):
    """The verdict on one step. `reads` names the steps that it is computed from; `sample` holds values to look at: None
    where the step was not seen, where it is right and one of many cases, and where a run has too many for all."""

    name: str
    axes: str
    status: str
    flags: list[str]
    found: Location | None
    isolated: Deviation | None
    accumulated: Deviation | None
    reads: list[str] = []
    sample: Sample | None = None


class Finding(msgspec.Struct, frozen=True):
    """A convention that explains a divergence.

    `formula` is what it makes of the step, `canonical_formula` what the layer that was asked for has there; they are
    empty where no formula says it. `seen` is where others met it.
    """

    convention: str
    value: str
    canonical: str
    step: str
    explains: bool
    equivalent: list[str]
    sentence: str
    formula: str = ""
    canonical_formula: str = ""
    seen: str = ""


class LayoutFinding(msgspec.Struct, frozen=True):
    """A step that is held with other axes."""

    step: str
    convention: str
    value: str


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One subject on one fixture: the judged case. `config` is what was asked for, canonical defaults included, and
    `left` names what of it was left to the framework's own defaults; `shapes` are those of the inputs and weights, by
    name; `output` is the SHA-256 of the output's bits. All but `left` are empty where it was not judged."""

    layer: str
    fixture: str
    adapter: str
    subject: str
    mode: str = "eager"
    dtype: str
    device: str = "cpu"
    status: str
    culprit: str | None = None
    culprit_until: str | None = None
    seconds: float = 0.0
    message: str | None = None
    config: dict[str, Any] = {}
    shapes: dict[str, list[int]] = {}
    left: list[str] = []
    output: str = ""
    layouts: list[LayoutFinding] = []
    diagnosis: list[Finding] = []
    steps: list[StepResult] = []

    @property
    def ratio(self) -> float | None:
        """The worst ratio of the case: isolated at any step, or accumulated at the output."""
        ratios = [s.isolated.tolerances for s in self.steps if s.isolated is not None]
        if self.steps and self.steps[-1].accumulated is not None:
            ratios.append(self.steps[-1].accumulated.tolerances)
        return max(ratios, default=None)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run gave. `command` has the words of the command line that it was made by; the files that
    it wrote are left out."""

    schema: int = 1
    conformance: str = __version__
    environment: dict[str, str]
    command: list[str] = []
    started: str
    seconds: float
    summary: dict[str, int]
    cases: list[Case]

    @property
    def exit_code(self) -> int:
        """The exit code that DESIGN gives for these statuses (`unavailable` counts where it was asked for)."""
        if self.summary.get("diverges", 0) or self.summary.get("stale-divergence", 0):
            return 1
        return 3 if any(self.summary.get(s, 0) for s in ("crashed", "timeout", "error")) else 0


def summarise(cases: list[Case]) -> dict[str, int]:
    """How many cases have each status, in the order of STATUSES; absent ones are left out."""
    counts = {s: sum(c.status == s for c in cases) for s in STATUSES}
    return {s: n for s, n in counts.items() if n}


def number(value: float) -> float | str:
    """A float as JSON can hold it."""
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")


def _deviation(figures: Figures | None) -> Deviation | None:
    if figures is None:
        return None
    return Deviation(number(figures.ratio), number(figures.max_abs), number(figures.max_rel), list(figures.at))


def _step(step: JudgedStep) -> StepResult:
    location = None
    if step.found is not None:
        location = Location(step.found.operation, step.found.position, step.found_axes or "")
    return StepResult(
        name=step.name,
        axes=step.axes,
        status=step.status,
        flags=list(step.flags),
        found=location,
        isolated=_deviation(step.isolated),
        accumulated=_deviation(step.accumulated),
        reads=list(step.reads),
        sample=step.sample,
    )


def asked_for(flow: Flow, output: NDArray[Any]) -> dict[str, Any]:
    """A layer's config, the shapes of its arrays, and the bits that came out, as fields of a case."""
    import hashlib

    from conformance.flow import GIVEN

    shapes = {n.removeprefix(GIVEN): list(v.shape) for n, v in flow.values.items() if hasattr(v, "shape")}
    config = {name: _plain(value) for name, value in flow.config.items()}
    bits = hashlib.sha256(f"{output.dtype} {output.shape} ".encode() + output.tobytes()).hexdigest()
    return {"config": dict(sorted(config.items())), "shapes": dict(sorted(shapes.items())), "output": bits}


def _plain(value: Any) -> Any:
    """A config value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(v) for name, v in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return number(value) if isinstance(value, float) else value


def parts_of(verdict: Verdict) -> dict[str, Any]:
    """A verdict's findings and steps as fields of a case."""
    return {
        "culprit": verdict.culprit,
        "culprit_until": verdict.until,
        "layouts": [LayoutFinding(x.step, x.convention, x.value) for x in verdict.layouts],
        "diagnosis": [
            Finding(
                c.convention,
                c.value,
                c.canonical,
                c.step,
                c.explains,
                list(c.equivalent),
                c.sentence,
                c.formula,
                c.canonical_formula,
                c.seen,
            )
            for c in verdict.causes
        ],
        "steps": [_step(s) for s in verdict.steps],
    }


def escaped(value: Any) -> Any:
    """`value`, plain data, with what is no UTF-8 in its strings (lone surrogates, of a file's name for instance), which
    JSON cannot hold, as backslash escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {escaped(k): escaped(v) for k, v in value.items()}
    return [escaped(v) for v in value] if isinstance(value, list) else value
