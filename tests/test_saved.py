"""Saved runs: what is in the folder, what is read of it again, and what is gone on with."""

import errno
import hashlib
import json
import os
import shutil
import string
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from conformance import plan, saved, saving, wire, worker
from conformance.errors import ConformanceError
from conformance.gating import recorded
from conformance.reading import read
from conformance.run import run
from conformance.saved import Planned, Saved, open_saved
from conformance.saving import Saving
from test_run import Here, fixtures  # noqa: F401  # a fixture
from third_party_adapter import frame  # noqa: F401  # a fixture

SUBJECTS = "fine,wrong,unfaithful,unsupported"
PRODUCT = [[201.0, 2010.0], [-299.9, -2999.0]]  # of the kernel and the inputs in test_run
LINES = {"manifest.json", "journal.jsonl", "cases"}


@pytest.fixture(autouse=True)
def _subjects(frame, monkeypatch):  # noqa: F811
    monkeypatch.setattr(worker, "_started", {})
    monkeypatch.setenv("FRAME_SUBJECTS", SUBJECTS)
    plan._digest.cache_clear()


class Counting(Here):
    """Does the work at once, and has what it was asked for."""

    def __init__(self):
        self.asked = []

    def submit(self, fn, adapter, request):
        self.asked.append((request.subject, request.dtype))
        return super().submit(fn, adapter, request)


def save(given, folder, again=False, dtypes=("float32", "float64"), executor=None, **options):
    """A run that is saved, without its last file."""
    made = Saving.again(folder) if again else Saving.begin(folder)
    try:
        return run(given, ["frame"], dtypes, executor=executor or Here(), saving=made, **options)
    finally:
        made.close()


def lasting(result):
    """A result without what is another each time."""
    made = msgspec.to_builtins(result)
    del made["started"], made["seconds"], made["environment"]
    for case in made["cases"]:
        del case["seconds"]
    return made


def files(folder):
    return {p.name: p.read_bytes() for p in (folder / "cases").iterdir()}


def file_of(folder, subject, suffix, dtype="float32"):
    [path] = (folder / "cases").glob(f"small-frame-{subject}-eager-{dtype}-*{suffix}")
    return path


# -- what is saved --------------------------------------------------------------------------------------------


def test_what_was_judged_is_read_again(fixtures, tmp_path):  # noqa: F811
    result = save(fixtures(), tmp_path / "s")
    found = open_saved(tmp_path / "s")
    assert found.missing() == []
    assert lasting(found.run) == lasting(result)
    assert found.run.started == result.started
    assert found.run.environment["frame"] == "1.5.0"
    assert {c.subject: c.seconds for c in found.cases()} == {c.subject: c.seconds for c in result.cases}
    assert [c.status for c in result.cases if c.dtype == "float32"] == ["conforms", "error", "unsupported", "diverges"]


def test_arrays_have_their_own_dtype_and_bits(fixtures, tmp_path):  # noqa: F811
    save(fixtures(), tmp_path / "s")
    found = open_saved(tmp_path / "s")
    cases = {(c.subject, c.dtype): c for c in found.cases()}
    for dtype in ("float32", "float64"):
        arrays = found.arrays(cases["fine", dtype])
        assert sorted(arrays) == ["output", "steps.output", "steps.product"]
        assert {a.dtype.name for a in arrays.values()} == {dtype}
        x = np.array([[1.0, 2.0], [0.1, -3.0]]).astype(dtype)
        kernel = np.array([[1.0, 10.0], [100.0, 1000.0]]).astype(dtype)
        assert arrays["output"].tobytes() == (x @ kernel).tobytes()
        assert np.allclose(arrays["steps.product"], PRODUCT, rtol=1e-6)
    assert np.allclose(found.arrays(cases["wrong", "float64"])["output"], np.array(PRODUCT) * 2)
    assert found.arrays(cases["unfaithful", "float32"]) == {}
    loaded = load_file(file_of(tmp_path / "s", "fine", ".safetensors"))  # by the format's own library
    assert np.array_equal(loaded["output"], found.arrays(cases["fine", "float32"])["output"])


def test_the_same_inputs_give_the_same_bytes(fixtures, tmp_path):  # noqa: F811
    given = fixtures()
    save(given, tmp_path / "a")
    save(given, tmp_path / "b")
    first = files(tmp_path / "a")
    assert first == files(tmp_path / "b")
    assert len(first) == 8 + 4  # unfaithful and unsupported have no arrays


def test_what_never_ran_is_saved_too(fixtures, tmp_path):  # noqa: F811
    result = save(fixtures("softmax", **{"inputs.x": np.ones((2, 3))}), tmp_path / "s")
    assert (
        [c.status for c in open_saved(tmp_path / "s").cases()]
        == ["unsupported"] * 2
        == [c.status for c in result.cases]
    )


def test_a_message_that_is_no_text_is_saved(fixtures, tmp_path, monkeypatch):  # noqa: F811
    import frame_adapter

    def fail(self, request):
        raise RuntimeError("no file caf\udce9.bin")

    monkeypatch.setattr(frame_adapter.Frame, "do_fine", fail)
    save(fixtures(), tmp_path / "s")
    assert "no file caf\\udce9.bin" in open_saved(tmp_path / "s").cases()[0].message


def test_large_arrays_are_left_out_and_said(fixtures, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(saving, "MOST_OF_STEPS", 20)  # a step has 16 bytes in float32, and 32 in float64
    monkeypatch.setattr(saving, "MOST_OF_OUTPUT", 31)
    monkeypatch.setenv("FRAME_SUBJECTS", "fine")
    given = fixtures()
    save(given, tmp_path / "s")
    found = open_saved(tmp_path / "s")
    single, double = found.cases()
    assert sorted(found.arrays(single)) == ["output", "steps.product"]
    assert sorted(found.left_out(single)) == ["steps.output"]
    assert found.arrays(double) == {}
    output = np.array([[1.0, 2.0], [0.1, -3.0]]) @ np.array([[1.0, 10.0], [100.0, 1000.0]])
    told = found.left_out(double)["output"]
    assert (told.shape, told.dtype) == ([2, 2], "float64")
    assert told.sha256 == hashlib.sha256(output.tobytes()).hexdigest()
    counting = Counting()
    save(given, tmp_path / "s", again=True, executor=counting)
    assert counting.asked == []


# -- going on -------------------------------------------------------------------------------------------------


def test_what_is_done_is_not_run_again(fixtures, tmp_path):  # noqa: F811
    given = fixtures()
    result = save(given, tmp_path / "s")
    before, counting, seen = files(tmp_path / "s"), Counting(), []
    again = save(given, tmp_path / "s", again=True, executor=counting, progress=lambda *told: seen.append(told[1:]))
    assert counting.asked == [("unfaithful", "float32"), ("unfaithful", "float64")]  # an error may be an accident
    assert lasting(again) == lasting(result)
    assert (again.started, again.environment["frame"]) == (result.started, "1.5.0")
    assert files(tmp_path / "s") == before
    assert seen[-1] == (8, 8)
    seconds = {(c.subject, c.dtype): c.seconds for c in result.cases if c.subject != "unfaithful"}
    assert seconds.items() <= {(c.subject, c.dtype): c.seconds for c in again.cases}.items()


def test_what_it_ran_on_is_known_where_nothing_is_run_again(fixtures, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("FRAME_SUBJECTS", "fine")
    given, counting = fixtures(), Counting()
    result = save(given, tmp_path / "s")
    again = save(given, tmp_path / "s", again=True, executor=counting)
    assert counting.asked == []
    assert again.environment == result.environment
    assert result.environment["frame"] == "1.5.0"


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def emptied(path):
    path.write_bytes(b"")


def piped(path):
    path.unlink()
    os.mkfifo(path)


def of_another(path):
    shutil.copy(file_of(path.parents[1], "wrong", path.suffix), path)


def all_of_another(path):
    for suffix in (".json", ".safetensors"):
        shutil.copy(file_of(path.parents[1], "wrong", suffix), path.with_suffix(suffix))


def nested(path):
    path.write_bytes(b"[" * 100_000)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("damage", [half, flipped, emptied, piped, of_another, all_of_another, nested, Path.unlink])
def test_what_is_damaged_is_run_again(fixtures, tmp_path, monkeypatch, damage, suffix):  # noqa: F811
    monkeypatch.setenv("FRAME_SUBJECTS", "fine,wrong")
    given, folder = fixtures(), tmp_path / "s"
    result = save(given, folder)
    before = files(folder)
    damage(file_of(folder, "fine", suffix))
    opened = open_saved(folder)
    assert [(p.subject, p.dtype) for p in opened.missing()] == [("fine", "float32")]
    assert len(opened.run.cases) == 3
    with pytest.raises(ConformanceError):
        opened.arrays(result.cases[0])
    counting = Counting()
    assert lasting(save(given, folder, again=True, executor=counting)) == lasting(result)
    assert counting.asked == [("fine", "float32")]
    assert files(folder) == before


def test_an_interrupted_run_goes_on(fixtures, tmp_path):  # noqa: F811
    given = fixtures()
    whole = save(given, tmp_path / "whole")

    def stop(case, number, total):
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(given, tmp_path / "s", progress=stop)
    opened = open_saved(tmp_path / "s")
    assert len(opened.cases()) == 3 == len(read(tmp_path / "s").cases)
    assert len(opened.missing()) == 5
    assert not opened.whole
    assert "finish it by `conformance run --resume" in refused(recorded, tmp_path / "s")
    assert sum(opened.run.summary.values()) == 3
    assert lasting(save(given, tmp_path / "s", again=True)) == lasting(whole)
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_what_failed_is_run_again_and_may_do_better(fixtures, tmp_path, monkeypatch):  # noqa: F811
    import frame_adapter

    monkeypatch.setenv("FRAME_SUBJECTS", "raise")
    given = fixtures()
    assert {c.status for c in save(given, tmp_path / "s").cases} == {"error"}
    monkeypatch.setattr(frame_adapter.Frame, "do_raise", frame_adapter.Frame.do_fine)
    again = save(given, tmp_path / "s", again=True)
    assert {c.status for c in again.cases} == {"conforms"} == {c.status for c in open_saved(tmp_path / "s").cases()}


def test_a_torn_line_of_the_journal_costs_its_seconds_alone(fixtures, tmp_path):  # noqa: F811
    given = fixtures()
    save(given, tmp_path / "s")
    journal = tmp_path / "s" / "journal.jsonl"
    lines = [line for line in journal.read_bytes().split(b"\n") if line]
    assert len(lines) == 8
    journal.write_bytes(b"\n".join([*lines[:-1], b"\xff", b"[" * 99_999, lines[-1][:30]]))
    found = open_saved(tmp_path / "s")
    assert found.environment["frame"] == "1.5.0"
    assert len(found.cases()) == 8
    save(given, tmp_path / "s", again=True)
    added = [json.loads(line)["case"] for line in journal.read_bytes().split(b"\n")[-5:] if line.endswith(b"}")]
    assert sorted(added) == sorted(
        file_of(tmp_path / "s", "unfaithful", ".json", dtype).stem for dtype in ("float32", "float64")
    )


# -- refusals -------------------------------------------------------------------------------------------------


def refused(call, *arguments, **options):
    with pytest.raises(ConformanceError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def test_another_plan_is_refused(fixtures, tmp_path, monkeypatch):  # noqa: F811
    given, folder = fixtures(), tmp_path / "s"
    save(given, folder)
    assert "it has the dtypes float32, float64, and asked for now are float32;" in refused(
        save, given, folder, again=True, dtypes=["float32"]
    )
    assert "it does not have the fixture other, which is asked for now" in refused(
        save, given + fixtures(name="other"), folder, again=True
    )
    assert "it has the fixture small, which is not asked for now" in refused(save, [], folder, again=True)
    monkeypatch.setenv("FRAME_SUBJECTS", "fine,wrong")
    assert "it has a case of un" in refused(save, given, folder, again=True)
    monkeypatch.setenv("FRAME_SUBJECTS", SUBJECTS)
    monkeypatch.setattr(plan, "__version__", "0.0.9")
    assert "it was made with conformance 0.1.0, and here is 0.0.9" in refused(save, given, folder, again=True)
    monkeypatch.undo()


def test_another_version_of_a_framework_is_refused(fixtures, tmp_path, monkeypatch):  # noqa: F811
    given = fixtures()
    versions = {"numpy": "9.1"}
    monkeypatch.setattr(plan.metadata, "version", lambda name: versions[name])
    save(given, tmp_path / "s")
    versions["numpy"] = "9.2"
    assert "it was made with numpy 9.1, and here is 9.2" in refused(save, given, tmp_path / "s", again=True)
    monkeypatch.setattr(plan, "_packages", lambda adapters: {"numpy": "9.1", "torch": "2.0"})
    said = refused(save, given, tmp_path / "s", again=True)
    assert "it was made without torch, and here is 2.0;" in said
    monkeypatch.setattr(plan, "_packages", lambda adapters: {"frame": "1.5"})
    save(given, tmp_path / "t")
    monkeypatch.setattr(plan, "_packages", lambda adapters: {})
    assert "it was made with frame 1.5, and here is none;" in refused(save, given, tmp_path / "t", again=True)


def test_another_adapter_is_said_before_its_version(fixtures, tmp_path, monkeypatch):  # noqa: F811
    given = fixtures()
    save(given, tmp_path / "s")
    made = Saving.again(tmp_path / "s")
    said = refused(run, given, ["onnxruntime"], executor=Here(), saving=made)
    made.close()
    assert "it has the adapter frame, which is not asked for now" in said


def test_a_package_may_bring_a_module_of_another_name(monkeypatch):
    adapter = type("Gpu", (), {"requires": ("onnxruntime.capi", "a_module_that_is_not_there")})()

    def version(name):
        if name == "onnxruntime-gpu":
            return "1.31"
        raise plan.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(plan.metadata, "version", version)
    monkeypatch.setattr(plan, "_brought", lambda: {"onnxruntime": ["onnxruntime-gpu"]})
    assert plan._packages([adapter]) == {"onnxruntime-gpu": "1.31"}


def test_a_fixture_whose_files_changed_is_refused(fixtures, tmp_path):  # noqa: F811
    given = fixtures()
    save(given, tmp_path / "s")
    plan._digest.cache_clear()
    (given[0].folder / "__pycache__").mkdir()
    (given[0].folder / "__pycache__" / "x.pyc").write_bytes(b"1")
    save(given, tmp_path / "s", again=True)
    plan._digest.cache_clear()
    with (given[0].folder / "fixture.toml").open("a") as file:
        file.write("# a comment\n")
    said = refused(save, given, tmp_path / "s", again=True)
    assert "the fixture small is another by now: its files were changed" in said


def test_only_a_new_or_empty_folder_is_saved_to(fixtures, tmp_path):  # noqa: F811
    save(fixtures(), tmp_path / "s")
    assert f"go on with it by --resume {tmp_path / 's'}" in refused(Saving.begin, tmp_path / "s")
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    assert f"{other} is not empty" in refused(Saving.begin, other)
    assert "holds no saved run to go on with" in refused(Saving.again, other)
    assert [p.name for p in other.iterdir()] == ["thesis.tex"]
    assert "cannot be written: Not a directory" in refused(Saving.begin, other / "thesis.tex" / "x")
    assert "cannot be written: File exists" in refused(Saving.begin, other / "thesis.tex")
    assert "cannot be written: No such file or directory" in refused(Saving.begin, tmp_path / "a" / "b")
    assert "holds no saved run" in refused(open_saved, tmp_path / "absent")


def test_a_folder_in_which_a_process_died_before_it_had_a_plan_is_empty(fixtures, tmp_path):  # noqa: F811
    Saving.begin(tmp_path / "s").close()
    (tmp_path / "s" / ".conformance-0123.tmp").write_bytes(b"half")
    assert {p.name for p in (tmp_path / "s").iterdir()} == {"journal.jsonl", "cases", ".conformance-0123.tmp"}
    save(fixtures(), tmp_path / "s")
    assert {p.name for p in (tmp_path / "s").iterdir()} == LINES


def test_what_a_killed_process_left_half_written_is_cleared_away(fixtures, tmp_path):  # noqa: F811
    given = fixtures()
    save(given, tmp_path / "s")
    (tmp_path / "s" / "cases" / ".conformance-0123.tmp").write_bytes(b"half")
    save(given, tmp_path / "s", again=True)
    assert {p.suffix for p in (tmp_path / "s" / "cases").iterdir()} == {".json", ".safetensors"}


def test_one_process_at_a_time(fixtures, tmp_path):  # noqa: F811
    save(fixtures(), tmp_path / "s")
    first = Saving.again(tmp_path / "s")
    assert "another run is being saved" in refused(Saving.again, tmp_path / "s")
    first.close()
    Saving.again(tmp_path / "s").close()


# -- a full disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", range(1, 9))
def test_a_full_disk_leaves_what_was_saved(fixtures, tmp_path, monkeypatch, at):  # noqa: F811
    """Whichever file it is that does not fit; the tensors of a case, or its JSON."""
    monkeypatch.setenv("FRAME_SUBJECTS", "fine,wrong")
    given, folder = fixtures(), tmp_path / "s"
    whole = save(given, tmp_path / "whole")
    made = Saving.begin(folder)
    count, write, write_tensors = 0, Saving._write, wire.save

    def full() -> None:
        nonlocal count
        count += 1
        if count > at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def tensors(path, *rest):
        path.write_bytes(b"half")
        full()
        write_tensors(path, *rest)

    def json_file(self, path, content):
        with saving._sentences(self.folder), saving.replacing(path) as beside:
            beside.write_bytes(content[:10])
            full()
        write(self, path, content)

    with monkeypatch.context() as patched:
        patched.setattr(wire, "save", tensors)
        patched.setattr(Saving, "_write", json_file)
        said = refused(run, given, ["frame"], executor=Here(), saving=made)
    made.close()
    assert "cannot be written: No space left on device; what is done is saved, go on with --resume" in said
    assert len(open_saved(folder).cases()) == (at - 1) // 2
    assert not list(folder.rglob(".conformance-*"))
    assert lasting(save(given, folder, again=True)) == lasting(whole)
    assert files(folder) == files(tmp_path / "whole")


# -- folders from anywhere ------------------------------------------------------------------------------------


@given(st.lists(st.text(st.characters(), max_size=200), min_size=7, max_size=7))
def test_a_file_has_a_plain_name_whatever_a_case_is_called(words):
    name = Planned(*words).file
    assert set(name) <= set(string.ascii_letters + string.digits + "-")
    assert 16 < len(name) < 100


def test_cases_that_differ_in_little_have_other_names():
    parts = ["linear", "linear/plain", "torch", "torch.nn.Linear", "eager", "float32", "cpu"]
    names = {Planned(*parts).file}
    for i in range(7):
        for other in (parts[i].upper(), parts[i] + "-", parts[i] + "\0", ""):
            names.add(Planned(*parts[:i], other, *parts[i + 1 :]).file)
    assert len({name.lower() for name in names}) == 1 + 7 * 4


def test_links_that_lead_out_of_the_folder_are_not_written_through(fixtures, tmp_path):  # noqa: F811
    given, folder, outside = fixtures(), tmp_path / "s", tmp_path / "outside"
    save(given, folder)
    outside.mkdir()
    (outside / "journal.jsonl").write_text("mine")
    (folder / "journal.jsonl").unlink()
    (folder / "journal.jsonl").symlink_to(outside / "journal.jsonl")
    assert "cannot be written" in refused(Saving.again, folder)
    assert (outside / "journal.jsonl").read_text() == "mine"
    (folder / "journal.jsonl").unlink()
    shutil.move(folder / "cases", outside / "cases")
    (folder / "cases").symlink_to(outside / "cases")
    assert "leads elsewhere" in refused(Saving.again, folder)


def resealed(folder, change):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())["content"]
    change(content)
    path.write_bytes(saved.sealed(json.dumps(content).encode()))


def test_a_manifest_that_is_not_right_is_said(fixtures, tmp_path):  # noqa: F811
    save(fixtures(), tmp_path / "s")
    path = tmp_path / "s" / "manifest.json"
    whole = path.read_bytes()
    for content in (b"", b"{}", b"\xff", b"[" * 99_999, whole[:-9], whole.replace(b"float64", b"float65")):
        path.write_bytes(content)
        assert str(path) in refused(open_saved, tmp_path / "s")
    path.write_bytes(whole.replace(b'"schema":1', b'"schema":7', 1))
    assert "has schema 7, and this version of conformance reads 1" in refused(open_saved, tmp_path / "s")
    path.write_bytes(whole)
    resealed(tmp_path / "s", lambda content: content["plan"].update(cases=[["a", "b"]]))
    assert "is no manifest of a saved run" in refused(open_saved, tmp_path / "s")


def test_a_case_that_could_not_have_been_written_is_refused(fixtures, tmp_path):  # noqa: F811
    save(fixtures(), tmp_path / "s")
    path = file_of(tmp_path / "s", "fine", ".json")
    content = json.loads(path.read_text())["content"]
    content["case"]["status"] = "splendid"
    path.write_bytes(saved.sealed(json.dumps(content).encode()))
    assert "splendid" in refused(read, tmp_path / "s")


def test_no_more_is_read_than_a_run_may_have(fixtures, tmp_path, monkeypatch):  # noqa: F811
    save(fixtures(), tmp_path / "s")
    monkeypatch.setattr(saved, "MOST_ARRAYS", 100)
    assert {c.subject for c in open_saved(tmp_path / "s").cases()} == {"unfaithful", "unsupported"}
    monkeypatch.setattr(saved, "MOST_JSON", 100)
    assert "is no file of a saved run" in refused(open_saved, tmp_path / "s")


def test_a_run_file_that_is_a_diff_is_refused(fixtures, tmp_path):  # noqa: F811
    save(fixtures(), tmp_path / "s")
    (tmp_path / "s" / "run.json").write_text('{"schema": 1, "pairs": []}')
    assert "run.json" in refused(read, tmp_path / "s")
    assert isinstance(open_saved(tmp_path / "s"), Saved)
