"""What is read in a process of its own: what it gives, refuses, and does to its process."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from conformance import mat
from conformance.apart import Apart
from conformance.errors import ConformanceError

READERS = """
import ctypes, os, time
import numpy as np
from conformance.errors import ConformanceError

def read(path, resave):
    print("a library that prints")
    return {"__metadata__": np.arange(3.0), "of process": np.array(os.getpid())}, {"b": path.read_text()}

def refuse(path, resave):
    raise ConformanceError(f"{path}: is no good; {resave}")

def fail(path, resave):
    raise ZeroDivisionError("ours")

def hang(path, resave):
    time.sleep(600)

def fill(path, resave):
    held = [np.ones(2**24) for _ in range(10**4)]

def die(path, resave):
    ctypes.string_at(0)
"""


@pytest.fixture
def reading(tmp_path, monkeypatch):
    (tmp_path / "readers.py").write_text(READERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    file = tmp_path / "file"
    file.write_text("what it says")
    return lambda name, seconds=5.0: (Apart(f"readers:{name}", seconds), file)


def test_arrays_come_back_under_whatever_name_and_what_is_told_with_them(reading):
    reader, file = reading("read")
    arrays, told = reader(file, "")
    assert arrays["__metadata__"].tolist() == [0.0, 1.0, 2.0]
    assert told == {"b": "what it says"}
    assert arrays["of process"] != os.getpid()
    assert np.array_equal(reader(file, "")[0]["of process"], arrays["of process"])  # it is kept


def test_what_is_refused_there_is_refused_here_and_what_is_our_own_fault_is_not_hidden(reading):
    reader, file = reading("refuse")
    with pytest.raises(ConformanceError, match="file: is no good; save it anew"):
        reader(file, "save it anew")
    reader, file = reading("fail")
    with pytest.raises(RuntimeError, match="ZeroDivisionError: ours"):
        reader(file, "")


def test_what_does_not_end_is_ended_and_the_next_file_is_read(reading):
    reader, file = reading("hang", 0.5)
    start = time.monotonic()
    with pytest.raises(ConformanceError, match=r"is corrupt \(reading it did not end within [01] s\); save it anew"):
        reader(file, "save it anew")
    assert time.monotonic() - start < 60
    reader.function = "readers:read"
    assert reader(file, "")[1]


def test_what_takes_memory_without_end_is_refused(reading):
    reader, file = reading("fill", 60.0)
    with pytest.raises(ConformanceError, match="file: takes more memory than a file of its size should; save it anew"):
        reader(file, "save it anew")
    reader.function = "readers:read"
    assert reader(file, "")[1]


def test_what_ends_its_process_is_told_by_its_signal(reading):
    reader, file = reading("die")
    with pytest.raises(ConformanceError, match="reading it ended a process: signal 11"):
        reader(file, "save it anew")
    reader.function = "readers:read"
    assert reader(file, "")[1]


def test_files_of_hdf5_are_read_so(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(mat, "_read_mat73", lambda path, resave: asked.append(path) or ({}, {}))
    file = tmp_path / "x.mat"
    file.write_bytes(b"\x89HDF\r\n\x1a\n")
    mat.open_mat(file)
    assert asked == [Path(file)]
