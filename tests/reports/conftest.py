"""A browser for the tests of the HTML report: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_pages import WATCH, Visit, Watch
from browser_runs import MADE
from playwright.sync_api import Browser, Page, sync_playwright

from conformance.difference import Difference
from conformance.result import Run
from conformance_reports.html_page import render


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "The HTML report is tested in Chromium, and there is none: install the package chromium."
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """Opens a run as a page, offline, with a context of its own. At the end of the test nothing may have been said
    in the console, been refused by the page's policy or been asked of elsewhere."""
    watches: list[Watch] = []

    def visited(shown: Run | Difference | str, fragment: str = "", **context: Any) -> Page:
        text = shown if isinstance(shown, str) else render(shown)
        file = tmp_path / f"report-{len(watches)}.html"
        file.write_text(text, "utf-8")
        page = browser.new_context(offline=True, **context).new_page()
        page.add_init_script(WATCH)
        watches.append(Watch(page))
        page.goto(file.as_uri() + fragment)
        return page

    yield visited
    found = [told for watch in watches for told in watch.found()]
    for watch in watches:
        watch.page.context.close()
    assert not found


class Runs(dict[str, Any]):
    """The runs of `browser_runs` by their names, each made when it is asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> Run | Difference:
        return self.setdefault(name, MADE[name](self.folder))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def faults(runs: dict[str, Run]) -> Run:
    return runs["planted"]
