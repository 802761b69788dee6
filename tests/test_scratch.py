"""The folder between a run and its workers, and what becomes of one whose process was killed."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conformance.scratch import Scratch

HELD = """
import sys
from conformance.scratch import Scratch
made = Scratch()
(made.path / "1.trace").write_bytes(b"x" * 100)
print(made.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_folder_is_there_and_then_gone(place):
    made = Scratch()
    (made.path / "x").write_text("y")
    assert list(place.iterdir()) == [made.path]
    made.cleanup()
    made.cleanup()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_cleared_away_and_what_is_in_use_is_not(place):
    with subprocess.Popen(
        [sys.executable, "-c", HELD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as held:
        theirs = Path(held.stdout.readline().strip())
        assert theirs.parent == place
        ours = Scratch()
        assert (theirs / "1.trace").is_file()
        held.kill()
        held.wait()
        assert theirs.is_dir()
        another = Scratch()
        assert sorted(place.iterdir()) == sorted([ours.path, another.path])
        ours.cleanup()
        another.cleanup()


def test_what_is_not_ours_stays(place):
    (place / "conformance-notes").mkdir()
    (place / "conformance-notes" / "thesis.tex").write_text("")
    (place / "conformance-file").write_text("")
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "in-use").write_text("")
    (place / "conformance-link").symlink_to(place / "elsewhere")
    before = sorted(place.rglob("*"))
    Scratch().cleanup()
    assert sorted(place.rglob("*")) == before
