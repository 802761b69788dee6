import json
import os
import stat
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest
from sample_runs import case, run_of

from conformance import report
from conformance.errors import ConformanceError
from conformance.report import load, report_names, write
from conformance.result import Run
from conformance_reports import html_page, json_file, terminal

RUN = run_of(case())


def test_the_reports_are_entry_points() -> None:
    assert {"html", "json", "terminal"} <= set(report_names())
    assert load("html") is html_page.render
    assert load("json") is json_file.render
    assert load("terminal") is terminal.show


def test_an_unknown_report_is_named_with_the_nearest() -> None:
    with pytest.raises(
        ConformanceError, match=r"unknown report 'jsom' \(did you mean 'json'\?\); installed are .*html"
    ):
        load("jsom")


def test_only_the_chosen_report_is_imported() -> None:
    code = (
        "import sys; from conformance.report import load; load('json');"
        "print([m for m in ('jinja2', 'rich', 'conformance_reports.html_page') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_report_is_written_whole(tmp_path: Path) -> None:
    write("json", RUN, tmp_path / "run.json")
    write("html", RUN, str(tmp_path / "run.html"))
    assert json.loads((tmp_path / "run.json").read_bytes())["summary"] == {"conforms": 1}
    assert (tmp_path / "run.html").read_text(encoding="utf-8") == html_page.render(RUN)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.html", "run.json"]


def test_a_file_gets_the_permissions_that_any_new_file_gets(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write("json", RUN, tmp_path / "run.json")
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_an_earlier_file_stays_where_rendering_or_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    path.write_text("earlier")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.os, "replace", full)
    with pytest.raises(ConformanceError, match=r"run\.json cannot be written: No space left on device"):
        write("json", RUN, path)
    assert path.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match=r"the folder .*absent does not exist; make it first"):
        write("json", RUN, tmp_path / "absent" / "run.json")


def test_a_folder_in_the_place_of_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match="is a folder: name a file in it"):
        write("json", RUN, tmp_path)


def test_a_folder_that_is_not_writable_is_said() -> None:
    # The superuser may write in any folder, but not make a file in this one.
    with pytest.raises(ConformanceError, match=r"^/proc/self/run\.json cannot be written: "):
        write("json", RUN, "/proc/self/run.json")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("earlier")
    (tmp_path / "link.json").symlink_to("real.json")
    write("json", RUN, tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_bytes())["schema"] == 1


def test_a_pipe_is_written_to() -> None:
    reading, writing = os.pipe()
    write("json", RUN, f"/proc/self/fd/{writing}")
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert json.loads(file.read())["schema"] == 1


def test_what_is_for_a_screen_is_not_written_to_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match="the report 'terminal' is for a screen"):
        write("terminal", RUN, tmp_path / "run.txt")
    assert not list(tmp_path.iterdir())


def test_a_third_party_ships_a_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = metadata.EntryPoint("count", "thirdparty:render", report.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda **_: [entry])
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda _: _count)
    write("count", RUN, tmp_path / "count.txt")
    assert (tmp_path / "count.txt").read_text() == "1 case: é"


def _count(run: Run) -> str:
    return f"{len(run.cases)} case: é"


def test_templates_and_schema_are_in_the_package() -> None:
    names = {p.name for p in resources.files("conformance_reports").joinpath("templates").iterdir()}
    runs = {
        "page.html.j2",
        "matrix.html.j2",
        "filter.html.j2",
        "problem.html.j2",
        "case.html.j2",
        "step.html.j2",
        "gate.html.j2",
        "page.css",
        "step.css",
        "page.js",
        "step.js",
    }
    assert names == runs | {"difference.html.j2"}
    for schema in ("run.schema.json", "gate.schema.json", "difference.schema.json"):
        assert resources.files("conformance_reports").joinpath(schema).is_file()
