"""What a framework declares and has no kernel for, as a run found it."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def case(dtype: str, fixture: str, status: str, subject: str = "frame.relu", mode: str = "eager") -> dict[str, str]:
    made = {"adapter": "frame", "layer": "relu", "dtype": dtype, "fixture": fixture, "status": status}
    return {**made, "subject": subject, "mode": mode}


def kernels(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The script, as it is in a folder of its own."""
    (folder / "kernels.py").write_text((ROOT / "docs" / "kernels.py").read_text(encoding="utf-8"), encoding="utf-8")
    command = [sys.executable, str(folder / "kernels.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run(folder: Path, name: str, *cases: dict[str, str]) -> Path:
    (folder / name).write_text(json.dumps({"cases": cases}), encoding="utf-8")
    return folder / name


def test_forms_of_which_no_subject_was_run_are_written(tmp_path: Path) -> None:
    first = run(
        tmp_path,
        "first.json",
        case("float16", "a/b", "unsupported"),
        case("float16", "a/c", "unsupported"),
        case("float16", "a/c", "conforms", subject="frame.other"),
        case("float32", "a/b", "diverges"),
        case("bfloat16", "a/b", "unsupported", subject=""),  # it was not declared
        case("float64", "a/b", "unavailable"),
        case("float32", "a/c", "unsupported", mode="jit"),
    )
    assert kernels(tmp_path, "--check", first).returncode == 1
    assert kernels(tmp_path, first).returncode == 0
    written = json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8"))
    assert written == {"frame": {"relu": {"float16": ["a/b"]}}}
    assert kernels(tmp_path, "--check", first).returncode == 0


def test_what_was_not_run_stays_and_what_runs_now_goes(tmp_path: Path) -> None:
    lacking = [case("float16", name, "unsupported") for name in ("a/b", "a/c")]
    kernels(tmp_path, run(tmp_path, "first.json", *lacking))
    later = run(tmp_path, "later.json", case("float16", "a/b", "conforms"))
    done = kernels(tmp_path, "--check", later)
    assert (done.returncode, done.stderr) == (1, "frame relu float16 a/b: is run\n")
    kernels(tmp_path, later)
    written = json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8"))
    assert written == {"frame": {"relu": {"float16": ["a/c"]}}}
