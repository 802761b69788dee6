"""Workers, with a framework that crashes, hangs, raises and chatters."""

import os
import re
import subprocess
import threading
import time

import numpy as np
import pytest

from conformance.trace import Request
from conformance.worker import WorkerFailed, Workers, resident, work
from third_party_adapter import frame  # noqa: F401  # a fixture

KERNEL = np.array([[1.0, 10.0], [100.0, 1000.0]])


def request(subject="fine", x=((1.0, 2.0),)):
    return Request("linear", subject, {}, {"x": np.array(x)}, {"kernel": KERNEL})


@pytest.fixture
def workers(frame):  # noqa: F811
    with Workers(jobs=2, timeout=60) as made:
        yield made


def ask(workers, subject="fine", **options):
    return workers.submit(work, "frame", request(subject, **options)).result()


def failed(workers, subject):
    with pytest.raises(WorkerFailed) as caught:
        ask(workers, subject)
    return caught.value.status, str(caught.value)


def test_a_trace_comes_back(workers):
    trace = ask(workers)
    assert trace.output.tolist() == [[201, 2010]]
    assert trace.output.dtype == np.float32
    assert [(e.operation, e.array.tolist()) for e in trace.tape] == [("frame.dot", [[201, 2010]])]
    assert trace.environment["frame"] == "1.5.0"
    assert trace.seconds >= 0


def test_one_process_answers_many_requests(workers):
    processes = {ask(workers, x=((i, 0.0),)).environment["process"] for i in range(3)}
    assert len(processes) == 1
    assert processes != {str(os.getpid())}


def test_a_traces_arrays_outlive_the_next_request(workers):
    first = ask(workers)
    for i in range(3):
        ask(workers, x=((i, i),))
    assert first.output.tolist() == [[201, 2010]]


def test_a_process_that_leaves_is_a_crash(workers):
    status, said = failed(workers, "exit")
    assert status == "crashed"
    assert said == "the worker died (exit status 7): first words | last words"


@pytest.mark.parametrize(("subject", "name"), [("segfault", "SIGSEGV"), ("kill", "SIGKILL")])
def test_a_signal_is_named(workers, subject, name):
    status, said = failed(workers, subject)
    assert status == "crashed"
    assert f"signal {name}" in said
    assert "about to fail" in said or "it said nothing" in said


def test_last_words_are_those_of_this_case(workers):
    assert failed(workers, "raise")[0] == "error"  # leaves a traceback in the log
    assert failed(workers, "kill") == ("crashed", "the worker died (signal SIGKILL): it said nothing")


def test_of_endless_words_the_last_are_told(workers):
    status, said = failed(workers, "endless-words")
    assert (status, said) == ("crashed", "the worker died (exit status 9): " + " | ".join(["word"] * 5))


def test_a_framework_that_ends_the_interpreter_is_a_crash(workers):
    status, said = failed(workers, "quit")
    assert status == "crashed"
    assert "exit status 1" in said
    assert "had enough" in said


def test_a_crash_is_followed_by_a_new_worker(workers):
    before = ask(workers).environment["process"]
    assert failed(workers, "exit")[0] == "crashed"
    after = ask(workers)
    assert after.output.tolist() == [[201, 2010]]
    assert after.environment["process"] != before
    assert failed(workers, "segfault")[0] == "crashed"
    assert ask(workers).output.tolist() == [[201, 2010]]


def test_an_exception_is_an_error_and_the_worker_lives_on(workers):
    before = ask(workers).environment["process"]
    assert failed(workers, "raise") == ("error", "RuntimeError: shapes 3x4 and 5x6 cannot be multiplied")
    assert failed(workers, "raise-nothing") == ("error", "KeyError: no message")
    assert failed(workers, "unknown")[0] == "error"
    assert ask(workers).environment["process"] == before


def test_what_the_framework_does_not_have_is_unsupported(workers):
    assert failed(workers, "unsupported") == ("unsupported", "frame 1.5 has no transposed kernel")


def test_a_framework_that_hangs_is_stopped(frame):  # noqa: F811
    with Workers(jobs=1, timeout=5) as workers:
        process = int(ask(workers).environment["process"])
        assert failed(workers, "hang") == ("timeout", "no answer within 5 s")
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
        assert ask(workers).output.tolist() == [[201, 2010]]


def test_a_framework_that_takes_too_much_memory_is_ended(frame):  # noqa: F811
    with Workers(jobs=1, timeout=60, memory=0.5) as workers:
        before = ask(workers).environment["process"]
        status, said = failed(workers, "hog")
        assert status == "crashed"
        taken = re.fullmatch(
            r"it took ([\d.]+) GiB of memory, more than the 0.5 GiB that --memory allows, and was ended", said
        )
        assert taken is not None, said
        assert 0.5 <= float(taken[1]) < 2
        after = ask(workers)
        assert after.output.tolist() == [[201, 2010]]
        assert after.environment["process"] != before


def test_memory_that_is_only_reserved_does_not_count(frame):  # noqa: F811
    with Workers(jobs=1, timeout=60, memory=0.5) as workers:
        assert ask(workers, "reserve").output.tolist() == [[201, 2010]]


def test_the_memory_of_a_process_is_what_it_has_in_use():
    """The system's own figure, as `ps` has it."""
    held = np.ones(2**24)
    own = resident(os.getpid())
    assert own > held.nbytes
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    assert own == pytest.approx(int(said.stdout) * 1024, rel=0.05)
    assert resident(2**22 + 1) == 0  # above any process's number


def test_noise_does_not_break_the_protocol(workers):
    for _ in range(2):
        assert ask(workers, "noise").output.tolist() == [[201, 2010]]
    assert failed(workers, "raise")[0] == "error"


def test_a_framework_that_does_not_start_is_an_error(frame, monkeypatch):  # noqa: F811
    monkeypatch.setenv("FRAME_START", "fails")
    with Workers(jobs=1, timeout=60) as workers:
        assert failed(workers, "fine") == ("error", "ImportError: libframe.so: cannot open shared object file")


def test_an_adapter_that_is_not_there_is_an_error(workers):
    with pytest.raises(WorkerFailed, match="unknown adapter 'farme'"):
        workers.submit(work, "farme", request()).result()


def test_a_trace_overrides_the_environment(workers):
    assert ask(workers, "environment").environment["frame"] == "1.5.1"


def test_requests_that_wait_are_all_answered(workers):
    futures = [workers.submit(work, "frame", request(x=((i, 0.0),))) for i in range(8)]
    assert [f.result().output[0, 0] for f in futures] == list(range(8))


def test_workers_do_one_job(workers):
    with pytest.raises(TypeError, match=r"conformance\.worker\.work only"):
        workers.submit(print, "frame", request())


def test_a_child_that_is_left_behind_does_not_hide_a_crash(workers):
    status, said = failed(workers, "orphan")
    assert (status, said) == ("crashed", "the worker died (exit status 3): it said nothing")
    assert ask(workers).output.tolist() == [[201, 2010]]


def test_shutting_down_waits_for_what_was_submitted(frame):  # noqa: F811
    with Workers(jobs=1) as workers:
        process = int(ask(workers).environment["process"])
        futures = [workers.submit(work, "frame", request("slow")) for _ in range(3)]
    assert [f.result().output.tolist() for f in futures] == [[[201, 2010]]] * 3
    assert {f.result().environment["process"] for f in futures} == {str(process)}
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_shutting_down_without_waiting_comes_back_at_once(frame):  # noqa: F811
    workers = Workers(jobs=1)
    future = workers.submit(work, "frame", request("slow"))
    workers.shutdown(wait=False)
    assert not future.done()
    assert future.result().output.tolist() == [[201, 2010]]


def test_shutting_down_and_cancelling_ends_the_processes_and_what_waits(frame):  # noqa: F811
    workers = Workers(jobs=1)
    process = int(ask(workers).environment["process"])
    futures = [workers.submit(work, "frame", request("hang")) for _ in range(3)]
    while not futures[0].running():
        time.sleep(0.01)
    workers.shutdown(cancel_futures=True)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with pytest.raises(WorkerFailed):
        futures[0].result(timeout=0)
    assert all(f.cancelled() for f in futures[1:])
    with pytest.raises(RuntimeError):
        ask(workers)


def test_who_waits_for_a_turn_does_not_hold_up_the_end(frame):  # noqa: F811
    """The turn is with an adapter whose waiting requests are cancelled, so that none of them gives it back."""
    workers = Workers(jobs=1)
    first = [workers.submit(work, "frame", request("hang")) for _ in range(2)]
    while not first[0].running():
        time.sleep(0.01)
    second = workers.submit(work, "absent", request())
    while not second.running():
        time.sleep(0.01)
    ending = threading.Thread(target=workers.shutdown, kwargs={"cancel_futures": True}, daemon=True)
    ending.start()
    ending.join(20)
    assert not ending.is_alive()
    for future in (first[0], second):
        with pytest.raises(WorkerFailed):
            future.result(timeout=0)


def test_a_dismissed_worker_is_gone_and_another_takes_its_place(workers):
    process = int(ask(workers).environment["process"])
    workers.dismiss("frame")
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert ask(workers).output.tolist() == [[201, 2010]]
    workers.dismiss("nobody")


def test_the_work_can_be_done_in_this_process_too(frame):  # noqa: F811
    trace = work("frame", request())
    assert trace.output.tolist() == [[201, 2010]]
    assert trace.environment["process"] == str(os.getpid())
