"""The corpus is as large and as varied as it has to be, and the judge does on it what it has to do.

That each subject is judged as expected is tested case by case, beside this; what falls short is in
`shortfalls`, and so the shares follow without judging everything again (`benchmarks/detection.py` does).
"""

from __future__ import annotations

from corpus import CLEAN, FAULTS, FRAMEWORKS
from shortfalls import SHORTFALLS


def test_there_are_enough_faults_of_every_sort():
    assert len(FAULTS) >= 120
    assert sum(fault.framework != "PyTorch" for fault in FAULTS) >= 40
    assert sum(fault.faults > 1 for fault in FAULTS) >= 20
    assert set(FRAMEWORKS) == {"PyTorch", "JAX", "Flax", "Keras", "TensorFlow", "ONNX Runtime", "NumPy"}


def test_there_are_as_many_clean_subjects_in_every_framework():
    for framework in FRAMEWORKS:
        faulty = [fault for fault in FAULTS if fault.framework == framework]
        assert sum(clean.framework == framework for clean in CLEAN) >= min(len(faulty), 60)
    assert len(CLEAN) >= len(FAULTS)


def test_names_are_unique():
    assert len({(fault.framework, fault.name, fault.problem.layer) for fault in FAULTS}) == len(FAULTS)
    assert len({(clean.framework, clean.name) for clean in CLEAN}) == len(CLEAN)


def test_every_layer_has_faults_and_clean_subjects_in_several_frameworks():
    layers = {fault.problem.layer for fault in FAULTS}
    assert layers == {clean.problem.layer for clean in CLEAN}
    for layer in layers:
        assert len({fault.framework for fault in FAULTS if fault.problem.layer == layer}) >= 4
        assert len({clean.framework for clean in CLEAN if clean.problem.layer == layer}) >= 4


def test_the_shares_that_are_asked_for_are_met():
    """Every fault is detected (each test asserts it); 98 % are placed, and of those with a name 95 % are named."""
    float32 = [fault for fault in FAULTS if "float32" in fault.dtypes]
    short = {name for name, shortfall in SHORTFALLS.items() if not shortfall.placed}
    assert short <= {fault.name for fault in FAULTS}
    assert sum(fault.name not in short for fault in float32) >= 0.98 * len(float32)
    named = [fault for fault in float32 if fault.named]
    without = {name for name, shortfall in SHORTFALLS.items() if not shortfall.named}
    assert sum(fault.name not in without for fault in named) >= 0.95 * len(named)
