"""What the documentation says is so: its code runs, its links lead somewhere, its tables are those of the program."""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Reader, blocks, comparable

from conformance.options import LISTS, parser

COMMANDS: dict[str, argparse.ArgumentParser] = next(
    a.choices for a in parser()._actions if isinstance(a, argparse._SubParsersAction)
)
RUNNABLE = [p for p in PAGES if any(b.verb in ("file", "run") for b in blocks(p))]


def named(pages: list[Path]) -> list[object]:
    return [pytest.param(page, id=page.name) for page in pages]


def options(command: str) -> set[str]:
    """The long options that a command takes; `--help` is one of them."""
    return {o for action in COMMANDS[command]._actions for o in action.option_strings if o.startswith("--")}


@pytest.mark.parametrize("page", named(RUNNABLE))
def test_what_a_page_says_to_do_does_what_it_says(page: Path, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for block in blocks(page):
        reader.follow(block)


def test_the_pages_that_have_code_are_run() -> None:
    assert {"tutorial.md", "adapter.md", "check.md", "run.md", "list.md", "explain.md"} <= {p.name for p in RUNNABLE}


def test_the_readme_shows_what_the_tutorial_prints() -> None:
    [shown] = [b.text for b in blocks(ROOT / "README.md") if b.language == "text"]
    printed = [b.text for b in blocks(ROOT / "docs" / "tutorial.md") if b.verb == "prints"]
    assert shown.strip() in "\n".join(printed)


def test_figures_and_seconds_do_not_count_but_words_and_positions_do() -> None:
    said = "torch  0.16\n4 conform in 8.54 s, at 2e15 tolerances"
    assert comparable(said) == comparable("torch 0.031 4 conform in 12 s, at 1.9e14 tolerances")
    assert comparable(said) != comparable(said.replace("4", "5"))
    assert comparable("operation 27") != comparable("operation 28")


# -- links ----------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The ids that a page's headings have."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("page", named(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_readme_leads_to_every_page() -> None:
    reached = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    assert [p.name for p in PAGES[1:] if p not in reached] == []


# -- the command line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_commands_page_has_its_options_and_no_others(command: str) -> None:
    text = (ROOT / "docs" / f"{command}.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(?:-\w, )?(--[\w-]+)", text, re.M)
    assert sorted(listed) == sorted(options(command))


@pytest.mark.parametrize("command", list(COMMANDS))
def test_the_reference_has_all_that_a_command_takes(command: str) -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {command}\n")[2].partition("\n## ")[0]
    assert re.search(rf"\]\(({command}|report)\.md", section)
    plain = section.replace("`", "")
    for action in COMMANDS[command]._actions:
        name = ", ".join(action.option_strings) or action.metavar or action.dest
        said = str(action.help).replace("`", "")
        assert re.search(rf"^\| {re.escape(name)}\b.* \| {re.escape(said)}", plain, re.M), name
    assert all(said in plain for said in (COMMANDS[command].description, COMMANDS[command].epilog) if said)


def test_every_command_has_its_page() -> None:
    assert [c for c in COMMANDS if not (ROOT / "docs" / f"{c}.md").is_file()] == []


@pytest.mark.parametrize("page", named(PAGES))
def test_commands_in_shell_blocks_exist(page: Path) -> None:
    for block in blocks(page):
        if block.language != "sh":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line.partition("|")[0], comments=True)
            if words[:1] != ["conformance"]:
                continue
            given = {w.partition("=")[0] for w in words if w.startswith("--")}
            if words[1].startswith("-"):
                assert given <= {"--version", "--debug", "--help"}, line
            else:
                assert words[1] in COMMANDS, line
                assert given <= options(words[1]), line


def test_list_takes_what_its_page_says() -> None:
    text = (ROOT / "docs" / "list.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == list(LISTS)


# -- pages made from data -----------------------------------------------------------------------------------------


def catalogue(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script, run where it lies in a checkout at `root`."""
    command = [sys.executable, str(root / "docs" / "catalogue.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_generated_pages_are_current() -> None:
    done = catalogue(ROOT, "--check")
    assert done.returncode == 0, f"{done.stderr}run `python docs/catalogue.py`"


def test_a_stale_page_is_named_and_then_written(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    page = tmp_path / "docs" / "conventions.md"
    right = page.read_text(encoding="utf-8")
    page.write_text(right.replace("Canonical", "Canon"), encoding="utf-8")
    done = catalogue(tmp_path, "--check")
    assert (done.returncode, done.stderr) == (1, "docs/conventions.md is stale\n")
    assert page.read_text(encoding="utf-8") != right
    assert catalogue(tmp_path).returncode == 0
    assert page.read_text(encoding="utf-8") == right
    assert catalogue(tmp_path, "--check").returncode == 0
