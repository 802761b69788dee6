"""Runs built by hand for the tests of the reports: every status, and names that mean harm."""

from __future__ import annotations

from typing import Any

from conformance.result import STATUSES, Case, Deviation, Finding, LayoutFinding, Location, Run, StepResult, summarise

ADAPTERS = ("jax", "keras-jax", "keras-tensorflow", "keras-torch", "matlab", "onnxruntime", "tensorflow", "torch")
LONGEST_FOLDER = "illustrated-self-attention"
HOSTILE = "<script>alert(1)</script>\" ' & [red]x[/red] [/] `b` \u202ecod.exe\u2066 \x1b[31m:smile: </style> \udc80"

SCALE = Finding(
    convention="attention.scale",
    value="1",
    canonical="1/sqrt(head_dim)",
    step="scaled",
    explains=True,
    equivalent=["attention.softcap = 7"],
    sentence="the scores are not divided",
    formula="scaled = scores",
    canonical_formula="scaled = scores / sqrt(head_dim)",
    seen="tutorial layers",
)


def deviation(ratio: float | str, max_abs: float | str = 2.31, at: tuple[int, ...] = (0, 3, 1, 2)) -> Deviation:
    return Deviation(ratio=ratio, max_abs=max_abs, max_rel=0.5, at=list(at))


def step(name: str, ratio: float | str | None, status: str = "conforms", **fields: Any) -> StepResult:
    told = None if ratio is None else deviation(ratio)
    made: dict[str, Any] = {
        "axes": "batch head query key",
        "flags": [],
        "found": None if ratio is None else Location("aten.bmm.default", 23, "batch query key head"),
        "isolated": told,
        "accumulated": told,
    }
    return StepResult(name=name, status=status, **{**made, **fields})


def case(status: str = "conforms", ratio: float | str | None = 0.21, **fields: Any) -> Case:
    made: dict[str, Any] = {
        "layer": "multi_head_attention",
        "fixture": "multi-head-attention/self",
        "adapter": "torch",
        "subject": "torch.nn.MultiheadAttention",
        "dtype": "float32",
        "seconds": 0.125,
    }
    if status in ("conforms", "uninformative", "inconclusive", "stale-divergence"):
        made["steps"] = [step("scores", None, "not-observed"), step("output", ratio)]
    if status in ("diverges", "known-divergence"):
        made["steps"] = [
            step("scores", 0.1),
            step("scaled", ratio, "diverges"),
            step("output", 0.1, "propagated", accumulated=deviation(7.0)),
        ]
        made["culprit"] = "scaled"
        made["diagnosis"] = [SCALE]
    if status not in ("conforms", "diverges"):
        made["message"] = f"the message of {status}"
    return Case(status=status, **{**made, **fields})


def run_of(*cases: Case, seconds: float = 41.2) -> Run:
    return Run(
        conformance="0.1.0",
        environment={"numpy": "2.4.0", "python": "3.11.2"},
        started="2026-01-02T03:04:05+00:00",
        seconds=seconds,
        summary=summarise(list(cases)),
        cases=list(cases),
    )


def every_status() -> Run:
    """A fixture per status, on two adapters, and what is unlike on a third."""
    cases = []
    for status in STATUSES:
        for adapter in ("keras-jax", "torch"):
            for dtype in ("float32", "float64"):
                ratio = 3.1e5 if status in ("diverges", "known-divergence") else 0.21
                cases.append(case(status, ratio, fixture=f"{status}-fixture/self", adapter=adapter, dtype=dtype))
    layout = LayoutFinding("scores", "attention.scores-layout", "key-query")
    held = step("scores", 0.1, found=Location("MatMul", 4, "key query"))
    cases.append(case(fixture="matlab-self-attention", adapter="matlab", layouts=[layout], steps=[held]))
    return run_of(*cases)


def hostile() -> Run:
    """Every field of text is the hostile one."""
    found = Location(HOSTILE, 3, HOSTILE)
    steps = [
        step(HOSTILE, 9.0, "diverges", axes=HOSTILE, flags=[HOSTILE], found=found),
        step("output", 0.1),
    ]
    finding = Finding(HOSTILE, HOSTILE, HOSTILE, HOSTILE, True, [HOSTILE], HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    text = dict.fromkeys(("layer", "fixture", "adapter", "subject", "dtype", "mode", "device", "message"), HOSTILE)
    told: dict[str, Any] = {
        "culprit": HOSTILE,
        "culprit_until": HOSTILE,
        "diagnosis": [finding],
        "layouts": [LayoutFinding(HOSTILE, HOSTILE, HOSTILE)],
        "steps": steps,
    }
    cases = [Case(status=status, **text, **told) for status in STATUSES]
    made = run_of(*cases)
    return Run(
        environment={HOSTILE: HOSTILE},
        started=HOSTILE,
        seconds=1.0,
        summary=made.summary,
        cases=cases,
    )
