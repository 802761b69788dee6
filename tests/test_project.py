import tomllib

import pytest

from conformance.cli import main
from conformance.errors import ConformanceError
from conformance.gated import Gated
from conformance.project import FILE, first, read_project
from conformance.reading import read

MODEL = """
import torch
from torch import nn


class Norm(nn.Module):
    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased={unbiased}) + 1e-5)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5))


def broken():
    raise OSError("no such weights")
"""
SUBJECTS = """
[run]
fixtures = []

[[subject]]
name = "norm"
subject = "model.py:Norm"
layer = "layer_norm"
inputs = "in.npz"

[[subject]]
name = "whole"
subject = "model.py:model"
"""
DIVERGES = """
[[divergence]]
subject = "norm"
step = "variance"
conventions = ["norm.variance = bessel"]
reason = "trained so"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    import numpy as np

    (tmp_path / "model.py").write_text(MODEL.format(unbiased=True))
    np.savez(tmp_path / "in.npz", x=np.random.default_rng(3).normal(size=(4, 7)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judged(folder, *words) -> dict[str, str]:
    """What each subject's status is, by its name."""
    main(["run", *words, "--json", str(folder / "run.json")])
    return {case.subject: case.status for case in read(folder / "run.json").cases}


def test_subjects_are_judged_and_what_may_diverge_is_known(folder):
    (folder / FILE).write_text(SUBJECTS)
    parts = {"whole: 0": "conforms", "whole: 1": "conforms"}
    assert judged(folder) == {"norm": "diverges", **parts}
    (folder / FILE).write_text(SUBJECTS + DIVERGES)
    assert judged(folder) == {"norm": "known-divergence", **parts}
    assert judged(folder, "--subject", "whole") == parts
    (folder / FILE).write_text(SUBJECTS + DIVERGES.replace("bessel", "fast"))  # it diverges, and not in this way
    assert judged(folder)["norm"] == "diverges"
    (folder / FILE).write_text(SUBJECTS + DIVERGES)
    (folder / "model.py").write_text(MODEL.format(unbiased=False))
    assert judged(folder)["norm"] == "stale-divergence"


def test_fixtures_are_those_of_the_file_unless_options_choose(folder):
    fixtures = SUBJECTS.replace(
        "fixtures = []", 'fixtures = ["softmax/one"]\nadapters = ["onnxruntime"]\ndtypes = ["float32"]'
    )
    fixtures = fixtures.replace("softmax/one", "linear/plain")
    (folder / FILE).write_text(fixtures)
    main(["run", "--json", str(folder / "run.json")])
    found = read(folder / "run.json").cases
    assert {(c.fixture, c.adapter, c.dtype) for c in found if c.fixture} == {("linear/plain", "onnxruntime", "float32")}
    assert {c.subject for c in found if not c.fixture} == {"norm", "whole: 0", "whole: 1"}
    main(["run", "--fixture", "layer-norm/plain", "--json", str(folder / "run.json")])
    assert {c.fixture for c in read(folder / "run.json").cases} == {"layer-norm/plain"}


def test_the_gate_watches_the_subjects_and_has_the_files_rules(folder):
    rule = '\n[[rule]]\nchange = "changed-default"\nverdict = "pass"\nreason = "we know"\n'
    (folder / FILE).write_text(SUBJECTS)
    (folder / "model.py").write_text(MODEL.format(unbiased=False))
    assert main(["run", "--json", "before.json"]) == 0
    (folder / "model.py").write_text(MODEL.format(unbiased=True))
    assert main(["gate", "--baseline", "before.json", "--json", "gate.json"]) == 1
    gated = read("gate.json")
    assert isinstance(gated, Gated)
    [norm] = [case for case in gated.cases if case.subject == "norm"]
    assert [(m.convention, m.before, m.now) for m in norm.moved] == [("norm.variance", "population", "bessel")]
    assert {c.subject: c.change for c in gated.cases if c is not norm} == {
        "whole: 0": "identical",
        "whole: 1": "identical",
    }
    (folder / FILE).write_text(SUBJECTS + rule)
    assert main(["gate", "--baseline", "before.json"]) == 0


def test_a_subject_that_fails_costs_itself_alone(folder):
    (folder / FILE).write_text(
        SUBJECTS + '[[subject]]\nname = "broken"\nsubject = "model.py:broken"\nlayer = "linear"\n'
    )
    found = judged(folder)
    assert (found["broken"], found["whole: 0"]) == ("error", "conforms")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[subject]]\nname = "a"\nsubject = "x.py:A"\nlayer = "layer_nrom"', "did you mean 'layer_norm'"),
        (
            '[[subject]]\nname = "a"\nsubject = "x"\n[[subject]]\nname = "a"\nsubject = "y"',
            "two subjects are called 'a'",
        ),
        ('[[subject]]\nname = "a"\nsubject = "x"\nconfig = {heads = 2}', "'a' names none"),
        ('[[subject]]\nname = "a"', "subject"),
        ('[[divergence]]\nsubject = "a"\nstep = "s"\nreason = "r"', "which is no subject"),
        (DIVERGES.replace("norm.variance", "norm.varience"), "did you mean 'norm.variance'"),
        ("[run]\nfixture = 3", "fixture"),
        ("x", "is not right"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_a_sentence(folder, capsys, text, said):
    (folder / FILE).write_text(text)
    with pytest.raises(ConformanceError, match=said):
        read_project(folder / FILE)
    assert main(["run"]) == 2
    [sentence] = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("conformance: conformance.toml is not right")


def test_names_that_there_are_not_are_refused(folder, capsys):
    assert main(["run", "--subject", "norm"]) == 2
    assert "there is none here" in capsys.readouterr().err
    (folder / FILE).write_text(SUBJECTS)
    assert main(["run", "--subject", "nrom"]) == 2
    assert "did you mean 'norm'" in capsys.readouterr().err
    assert main(["run", "--project", "other.toml"]) == 2
    assert "other.toml cannot be read" in capsys.readouterr().err


def test_the_first_file_is_right_lists_models_and_is_not_written_twice(folder, capsys):
    (folder / "models").mkdir()
    for name in ("encoder.onnx", 'models/de"coder.keras', "notes.txt"):
        (folder / name).write_text("")
    assert main(["init"]) == 0
    project = read_project(folder / FILE)
    assert [(s.name, s.subject) for s in project.subject] == [
        ("encoder", "encoder.onnx"),
        ('de"coder', 'models/de"coder.keras'),
    ]
    assert project.run.fixtures == ()
    commented = "\n".join(line.removeprefix("# ") for line in first(folder).splitlines() if line.startswith("# "))
    example = tomllib.loads("\n".join(commented.splitlines()[1:]))  # without the heading
    assert set(example) == {"subject", "divergence", "rule"}
    before = (folder / FILE).read_text()
    assert main(["init"]) == 2
    assert (folder / FILE).read_text() == before
    assert main(["init", str(folder / "nowhere")]) == 2
    assert "is no folder" in capsys.readouterr().err
