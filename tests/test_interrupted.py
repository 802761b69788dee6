"""Runs that something ends: what is saved is whole, is gone on with, and no process is left.

A handful of moments of each kind; `benchmarks/disturbance.py` takes as many as are asked for.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from conformance.cli import main
from conformance.interruption import interruptible
from conformance.saved import holds_run, open_saved
from disturbances import CASE_COUNT, KINDS, Bench, files_of, result_of

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_happens_nothing_is_lost(bench: Bench, tmp_path: Path, kind: str, seed: int) -> None:
    try:
        outcome = KINDS[kind](bench, tmp_path / "s", random.Random(f"{kind} {seed}"))
    except OSError as error:
        pytest.skip(f"a disk cannot be mounted here: {error}")
    assert outcome.faults == ()


def test_the_study_sees_what_is_wrong(bench: Bench, tmp_path: Path) -> None:
    """A case that is lost, a result that is another, a file of other bytes."""
    saved = tmp_path / "s"
    with bench.running(saved, "--save") as run:
        assert run.wait(60) == 1
    assert list(bench.compared(saved)) == []
    case = next(p for p in (saved / "cases").iterdir() if p.suffix == ".json")
    case.write_bytes(case.read_bytes().replace(b"float", b"flaot"))
    whole = saved / "run.json"
    whole.write_bytes(whole.read_bytes().replace(b'"conforms"', b'"diverges"', 1))
    assert list(bench.compared(saved)) == ["the result is another", "the files of the cases are others"]
    whole.unlink()
    assert "cannot be read" in next(bench.compared(saved))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(bench: Bench, tmp_path: Path, number: int) -> None:
    saved = tmp_path / "s"
    with bench.running(saved, "--save", "--jobs", "1", FRAIL_HANGS_AT="5") as run:
        while not holds_run(saved) or len(open_saved(saved).cases()) < 4:
            time.sleep(0.05)
        for _ in range(3):  # an impatient user
            run.process.send_signal(number)
            time.sleep(0.01)
        assert run.wait(20) == 130
        assert run.said() == f"conformance: interrupted: what is done is saved, go on with --resume {saved}\n"
        assert run.gone(0.0)
    assert len(open_saved(saved).run.cases) == 4
    assert len(open_saved(saved).missing()) == CASE_COUNT - 4
    with bench.running(saved, "--resume") as run:
        assert run.wait(60) == 1
    assert list(bench.compared(saved)) == []


def test_a_run_that_is_not_saved_is_interrupted_too(bench: Bench) -> None:
    with bench.unsaved(FRAIL_HANGS_AT="1") as run:
        while not run.workers():
            time.sleep(0.02)
        run.process.send_signal(signal.SIGTERM)
        assert run.wait(20) == 130
        assert run.said() == "conformance: interrupted\n"
        assert run.gone(0.0)


def test_a_worker_that_hangs_does_not_outlive_the_run(bench: Bench, tmp_path: Path) -> None:
    """The main process can do nothing about it any more: it is the system that ends the worker."""
    saved = tmp_path / "s"
    with bench.running(saved, "--save", FRAIL_HANGS_AT="3") as run:
        while not holds_run(saved) or len(open_saved(saved).cases()) < 2:
            time.sleep(0.05)
        assert run.workers()
        run.process.kill()
        assert run.gone(5.0)


def test_going_on_needs_no_options_and_gives_the_same_command(bench: Bench, tmp_path: Path) -> None:
    saved = tmp_path / "s"
    with bench.running(saved, "--save", "--timeout", "2", FRAIL_HANGS_AT="7") as run:
        assert run.wait(60) == 1
    assert open_saved(saved).run.summary["timeout"] == 1
    with bench.running(saved, "--resume") as run:
        assert run.wait(60) == 1
    assert open_saved(saved).run.command == [
        "conformance", "run", "--layer", "linear", "--adapter", "frail", "--timeout", "2"
    ]  # fmt: skip
    assert result_of(saved) == bench.result
    assert files_of(saved) == bench.files


def test_a_saved_run_is_reported(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(bench.reference), "--html", str(tmp_path / "x.html")]) == 0
    assert "frail" in (tmp_path / "x.html").read_text()
    assert main(["report", str(bench.reference)]) == 0
    assert "frail" in capsys.readouterr().out


def test_save_and_resume_exclude_one_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--save", str(tmp_path / "a"), "--resume", str(tmp_path / "b")]) == 2
    assert "not allowed with argument" in capsys.readouterr().err
    assert main(["run", "--resume", str(tmp_path / "b")]) == 2
    assert "holds no saved run to go on with" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def thrice(outlived: list[int]) -> None:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            outlived.append(number)


def test_only_the_first_signal_counts_and_handlers_come_back() -> None:
    outlived: list[int] = []
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), interruptible():
        thrice(outlived)
    assert outlived == [signal.SIGINT, signal.SIGTERM]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
