"""Subjects by name: what `file.py:Name` stands for, and what is said where it stands for nothing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from conformance.errors import ConformanceError
from conformance.loading import from_file, opened

SOURCE = """
import beside

class Plain:
    pass

class Needy:
    def __init__(self, width, depth=1):
        self.width = width

def make(width=beside.WIDTH):
    return Needy(width)

def function(x, y=2):
    return x

def broken():
    raise ValueError("no such weights")

instance = Needy(3)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    (tmp_path / "beside.py").write_text("WIDTH = 7\n")
    return tmp_path / "mine.py"


def test_a_name_stands_for_an_object_a_class_or_what_a_function_makes(file: Path) -> None:
    assert type(from_file(file, "Plain")).__name__ == "Plain"
    assert from_file(file, "make").width == 7
    assert from_file(file, "instance").width == 3
    assert from_file(file, "function").__name__ == "function"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Plane", "did you mean 'Plain'"),
        ("Needy", "Needy needs width to be made; write a function that needs no argument"),
        ("broken", r"broken\(\) raised ValueError: no such weights"),
    ],
)
def test_what_cannot_be_made_says_what_to_do(file: Path, name: str, said: str) -> None:
    with pytest.raises(ConformanceError, match=said):
        from_file(file, name)


def test_a_file_that_is_no_python_says_where(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("x = (\n")
    with pytest.raises(ConformanceError, match=r"bad.py, line 1: it cannot be run: SyntaxError"):
        from_file(path, "x")


def test_a_subject_of_no_framework_says_what_is_taken(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for subject in (object(), str(tmp_path / "notes.txt")):
        with pytest.raises(ConformanceError, match=r"nothing that an installed adapter takes.*\.onnx, \.keras"):
            opened(subject)
    with pytest.raises(ConformanceError, match="unknown adapter"):
        opened(object(), "nothing")


RANDOM = """
import random

import numpy as np
import torch

at_import = torch.nn.Linear(3, 2)
drawn = (random.random(), float(np.random.rand()))


class Made(torch.nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
"""


def test_what_is_random_in_a_file_is_the_same_each_time_and_the_callers_numbers_go_on(tmp_path):
    (tmp_path / "random_file.py").write_text(RANDOM)

    def loaded(name: str) -> list[float]:
        found = from_file(tmp_path / "random_file.py", name)
        return list(found) if name == "drawn" else found.weight.detach().flatten().tolist()

    torch.manual_seed(5)
    random.seed(5)
    undisturbed = torch.rand(1).item(), random.random()
    for name in ("at_import", "Made", "drawn"):
        torch.manual_seed(6)
        first = loaded(name)
        torch.manual_seed(7)
        assert loaded(name) == first
    torch.manual_seed(5)
    random.seed(5)
    loaded("Made")
    assert (torch.rand(1).item(), random.random()) == undisturbed
