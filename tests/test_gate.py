"""A gate over runs that are made by hand, case by case; and over real ones."""

import json

import jsonschema
import msgspec
import numpy as np
import pytest

from conformance.errors import ConformanceError
from conformance.gated import CHANGES, Gated
from conformance.gating import gate, recorded
from conformance.policy import Policy, read_policy
from conformance.reading import read, read_run
from conformance.report import load, write
from conformance.result import Case, Deviation, Finding, Run, StepResult, summarise
from conformance_reports.json_schema import GATE_FILE, gate_schema

EPSILON = Finding(
    convention="norm.epsilon",
    value="0.001",
    canonical="1e-05",
    step="normalized",
    explains=True,
    equivalent=[],
    sentence="s",
)
BESSEL = msgspec.structs.replace(
    EPSILON, convention="norm.variance", value="bessel", canonical="population", step="variance"
)


def step(ratio: float) -> StepResult:
    told = Deviation(ratio, 1e-7, 1e-7, [0])
    return StepResult("output", "unit", "conforms" if ratio <= 1 else "diverges", [], None, told, told)


def case(status: str = "conforms", *diagnosis: Finding, output: str = "aa", ratio: float = 0.2, **fields) -> Case:
    made = {
        **{"layer": "layer_norm", "fixture": "layer-norm/plain", "adapter": "torch", "subject": "torch.nn.LayerNorm"},
        **{"dtype": "float32", "steps": [step(ratio)], "diagnosis": list(diagnosis)},
    }
    if status in ("diverges", "known-divergence"):
        made["culprit"] = diagnosis[0].step if diagnosis else "output"
    return Case(status=status, output=output, **{**made, **fields})


def run_of(*cases: Case, **environment: str) -> Run:
    return Run(
        environment=environment,
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        summary=summarise(list(cases)),
        cases=list(cases),
    )


def became(before: Case | None, now: Case | None, **options) -> tuple[str, bool]:
    runs = [run_of() if c is None else run_of(c) for c in (before, now)]
    [found] = gate(*runs, **options).cases
    return found.change, found.fails


RIGHT, WRONG = case(), case("diverges", EPSILON, output="bb", ratio=90.0)


@pytest.mark.parametrize(
    ("before", "now", "change", "fails"),
    [
        (RIGHT, RIGHT, "identical", False),
        (RIGHT, case(output="cc"), "drift", False),
        (case(output=""), case(output=""), "drift", False),  # a baseline of before there were digests
        (RIGHT, WRONG, "changed-default", True),
        (RIGHT, case("diverges", ratio=90.0), "regressed", True),  # unexplained
        (RIGHT, case("uninformative"), "regressed", True),
        (WRONG, RIGHT, "improved", False),
        (case("error", output="", message="no"), RIGHT, "improved", False),
        (WRONG, WRONG, "same-divergence", False),
        (case("known-divergence", EPSILON), WRONG, "same-divergence", False),
        (WRONG, case("diverges", BESSEL, ratio=90.0), "changed-default", True),
        (WRONG, case("diverges", msgspec.structs.replace(EPSILON, value="0.01"), ratio=9.0), "changed-default", True),
        (case("diverges", ratio=90.0), case("diverges", culprit="mean", ratio=90.0), "changed-divergence", True),
        (RIGHT, case("crashed", output=""), "crashed", True),
        (RIGHT, case("unavailable", output=""), "crashed", True),
        (RIGHT, case("unsupported", output=""), "gone", True),
        (RIGHT, None, "gone", True),
        (None, WRONG, "new", False),
        (case("unsupported", output=""), case("unsupported", output=""), "unjudged", False),
        (case("unsupported", output=""), WRONG, "new", False),
    ],
)  # fmt: skip
def test_what_a_case_becomes(before, now, change, fails):
    assert became(before, now) == (change, fails)


def test_a_moved_convention_is_told_from_what_to_what():
    found = gate(run_of(RIGHT), run_of(WRONG)).cases[0]
    assert [(m.convention, m.step, m.before, m.now) for m in found.moved] == [
        ("norm.epsilon", "normalized", "1e-05", "0.001")
    ]
    found = gate(run_of(WRONG), run_of(case("diverges", BESSEL, ratio=90.0))).cases[0]
    assert [(m.convention, m.before, m.now) for m in found.moved] == [
        ("norm.epsilon", "0.001", "1e-05"),
        ("norm.variance", "population", "bessel"),
    ]
    back = gate(run_of(WRONG), run_of(RIGHT)).cases[0]
    assert (back.change, [(m.before, m.now) for m in back.moved]) == ("improved", [("0.001", "1e-05")])


@pytest.mark.parametrize("status", ["conforms", "stale-divergence"])
def test_a_default_that_became_the_canonical_one_has_changed_too(status):
    before = case("known-divergence", EPSILON, left=["epsilon"])
    assert became(before, case(status, left=["epsilon"])) == ("changed-default", True)
    assert became(case("known-divergence", EPSILON), case(status)) == ("improved", False)


def test_cases_are_the_same_by_what_they_are_of_and_not_by_their_place():
    a, b = case(adapter="jax"), case(adapter="torch")
    assert gate(run_of(a, b), run_of(b, a)).changes == {"identical": 2}
    assert gate(run_of(a), run_of(msgspec.structs.replace(a, mode="jit"))).changes == {"gone": 1, "new": 1}


def test_drift_is_bounded_by_both_errors_or_measured():
    before, now = case(output="aa", ratio=0.2), case(output="bb", ratio=0.3)
    [bounded] = gate(run_of(before), run_of(now)).cases
    assert (bounded.drift.ratio, bounded.drift.measured, bounded.drift.max_abs) == (pytest.approx(0.5), False, None)
    arrays = np.array([1.0, 2.0, np.nan, np.inf]), np.array([1.0, 2.5, np.nan, np.inf])
    [measured] = gate(run_of(before), run_of(now), outputs=(lambda _: arrays[0], lambda _: arrays[1])).cases
    told = measured.drift
    assert (told.measured, told.max_abs, told.elements, told.of) == (True, 0.5, 1, 4)


# -- the policy -------------------------------------------------------------------------------------------------


def policy(tmp_path, text: str) -> Policy:
    (tmp_path / "policy.toml").write_text(text)
    return read_policy(tmp_path / "policy.toml")


def test_the_last_rule_that_fits_decides(tmp_path):
    rules = policy(
        tmp_path,
        """
        [[rule]]
        change = ["changed-default", "drift"]
        verdict = "fail"
        [[rule]]
        convention = "norm.*"
        adapter = ["keras-*", "torch"]
        verdict = "pass"
        [[rule]]
        change = "drift"
        above = 0.5
        verdict = "fail"
        """,
    )
    assert became(RIGHT, WRONG, policy=rules) == ("changed-default", False)
    other = msgspec.structs.replace(RIGHT, adapter="jax"), msgspec.structs.replace(WRONG, adapter="jax")
    assert became(*other, policy=rules) == ("changed-default", True)
    assert became(RIGHT, case(output="cc", ratio=0.2), policy=rules) == ("drift", True)  # by the first
    lenient = policy(tmp_path, '[[rule]]\nchange = "drift"\nabove = 0.5\nverdict = "fail"\n')
    assert became(RIGHT, case(output="cc", ratio=0.2), policy=lenient) == ("drift", False)
    assert became(RIGHT, case(output="cc", ratio=0.4), policy=lenient) == ("drift", True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[rule]]\nchange = "regresed"\nverdict = "fail"', "did you mean 'regressed'"),
        ('[[rule]]\nverdict = "maybe"', "maybe"),
        ('[[rule]]\nverdict = "pass"\nlayers = "x"', "layers"),
        ("rule = 1", "rule"),
        ("[[rule]", "no policy"),
        ("\x00", "no policy"),
    ],
)
def test_a_policy_that_is_wrong_is_refused_in_a_sentence(tmp_path, text, said):
    with pytest.raises(ConformanceError, match=said) as raised:
        policy(tmp_path, text)
    assert "\n" not in str(raised.value)
    assert "policy.toml" in str(raised.value)


def test_no_policy_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(ConformanceError, match="cannot be read"):
            read_policy(path)


# -- what is written --------------------------------------------------------------------------------------------


@pytest.fixture
def gated() -> Gated:
    names = [f"layer-norm/{n}" for n in range(6)]
    before = [case(fixture=n, adapter="onnxruntime") for n in names[:3]] + [RIGHT, case(fixture="gone/one")]
    now = [case(fixture=n, adapter="onnxruntime", output="cc", ratio=0.4) for n in names[:3]] + [
        WRONG,
        case(fixture="new/one"),
    ]
    return gate(run_of(*before, torch="2.12.1"), run_of(*now, torch="2.13.0"))


def test_a_gate_is_written_by_its_schema_and_read_again(gated, tmp_path):
    write("json", gated, tmp_path / "gate.json")
    assert GATE_FILE.read_bytes() == gate_schema()
    jsonschema.Draft202012Validator(json.loads(GATE_FILE.read_bytes())).validate(
        json.loads((tmp_path / "gate.json").read_bytes())
    )
    again = read(tmp_path / "gate.json")
    assert isinstance(again, Gated)
    assert again == gated
    with pytest.raises(ConformanceError, match="is the result of a gate"):
        read_run(tmp_path / "gate.json")


@pytest.mark.parametrize("change", [{"failing": 7}, {"changes": {}}, {"summary": {}}])
def test_a_gate_whose_counts_are_wrong_is_refused(gated, tmp_path, change):
    write("json", msgspec.structs.replace(gated, **change), tmp_path / "gate.json")
    with pytest.raises(ConformanceError, match="is no result"):
        read(tmp_path / "gate.json")


def test_the_gate_is_told_in_every_form(gated, capsys, tmp_path):
    assert (gated.exit_code, gated.changes) == (1, {"changed-default": 1, "gone": 1, "drift": 3, "new": 1})
    moved = "1e-05 before, 0.001 now"
    for name in ("html", "markdown", "junit"):
        text = load(name)(gated)
        text = text if isinstance(text, str) else text.decode()
        assert moved in text, name
        assert "gone/one" in text, name
    assert "2 of 6 cases fail" in load("markdown")(gated)
    assert load("junit")(gated).count("<failure") == 2
    from rich.console import Console

    load("terminal")(gated, Console(width=80))
    printed = capsys.readouterr().out
    assert "torch 2.12.1 -> 2.13.0" in printed
    assert "drift (passes)  onnxruntime torch.nn.LayerNorm: 3 fixtures, float32" in printed
    assert "at most 0.60 tolerances apart" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_every_change_can_be_told():
    from conformance_reports.gate_wording import counted

    assert len({counted(change, 2) for change in CHANGES}) == len(CHANGES)


def test_the_baseline_is_run_again_where_no_candidate_is_given(tmp_path):
    from conformance.cli import main

    options = ["--fixture", "linear/plain", "--adapter", "onnxruntime", "--dtype", "float32"]
    assert main(["run", *options, "--json", str(tmp_path / "run.json")]) == 0
    assert main(["gate", "--baseline", str(tmp_path / "run.json"), "--json", str(tmp_path / "gate.json")]) == 0
    assert set(read(tmp_path / "gate.json").changes) == {"identical"}


def test_the_outputs_of_saved_runs_measure_the_drift(tmp_path):
    from conformance.cli import main

    options = ["--fixture", "linear/plain", "--adapter", "onnxruntime", "--dtype", "float32"]
    for name in ("before", "after"):
        assert main(["run", *options, "--save", str(tmp_path / name)]) == 0
    runs = [recorded(tmp_path / name) for name in ("before", "after")]
    arrays = [outputs(run.cases[0]) for run, outputs in runs]
    assert arrays[0].dtype == np.float32
    assert np.array_equal(arrays[0], arrays[1])
    assert main(["gate", "--baseline", str(tmp_path / "before"), "--candidate", str(tmp_path / "after")]) == 0
    # the same bits by the arrays, though the baseline has no digest
    (before, old), (after, new) = runs
    undigested = msgspec.structs.replace(before, cases=[msgspec.structs.replace(c, output="") for c in before.cases])
    assert gate(undigested, after, outputs=(old, new)).changes == {"identical": len(after.cases)}
    assert gate(undigested, after).changes == {"drift": len(after.cases)}
