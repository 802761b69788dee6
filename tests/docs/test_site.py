"""The documentation as a site: built without a warning, complete, and without a request to another host."""

import html
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from pages import PAGES, ROOT, blocks

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
STRUCTURE = r"<(h[1-6]|p|[uo]l|li|table|tr|td|th|pre|code|em|strong|blockquote|img)\b"


class Page(HTMLParser):
    """What a page of the site refers to: its ids, where its links lead, what it loads, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.add(given["id"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get(LOADED.get(tag)):
            self.loads.append(given[LOADED[tag]])

    def handle_data(self, data: str) -> None:
        self.text += data


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """The site of the checkout at `root`, written to the folder `site`."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", "docs/site/mkdocs.yml"]
    done = [*command, "--site-dir", str(site)]
    return subprocess.run(done, cwd=root, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def test_every_page_is_there_and_can_be_reached_from_every_other(site: Path, built: dict[Path, Page]) -> None:
    names = {"index.html", *(f"{p.stem}.html" for p in (ROOT / "docs").glob("*.md"))}
    assert {str(path.relative_to(site)) for path in built} == names
    for path, page in built.items():
        assert names - {path.name} <= {link.partition("#")[0] for link in page.links}, path


def test_links_and_what_is_loaded_lie_in_the_site(site: Path, built: dict[Path, Page]) -> None:
    for path, page in built.items():
        assert page.loads
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert link in page.links, f"{path.name} loads {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name} leads to {link}"
            assert target.is_relative_to(site)
            if parts.fragment and target in built:
                assert unquote(parts.fragment) in built[target].ids, f"{path.name} leads to {link}"


def test_style_sheets_load_nothing_from_elsewhere(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert (site / "site" / "site.css") in sheets
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8")
        assert not re.findall(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", text), sheet


def test_code_comes_out_as_it_was_written(site: Path, built: dict[Path, Page]) -> None:
    for source in PAGES:
        page = built[site / ("index.html" if source.name == "README.md" else f"{source.stem}.html")]
        for block in blocks(source):
            assert block.text.strip() in page.text, f"{source.name}: {block.text}"


def test_what_is_said_of_a_block_is_not_shown(built: dict[Path, Page]) -> None:
    for path, page in built.items():
        assert not re.search(r"<!-- (run|prints|file|edit|install)", page.text), path


@pytest.mark.parametrize("source", PAGES, ids=lambda source: source.name)
def test_a_page_has_the_structure_that_it_has_on_github(site: Path, source: Path) -> None:
    name = "index.html" if source.name == "README.md" else f"{source.stem}.html"
    shown = (site / name).read_text(encoding="utf-8").partition('role="main"')[2].partition("<footer")[0]
    on_github = MarkdownIt("commonmark").enable("table").render(source.read_text(encoding="utf-8"))
    assert re.findall(STRUCTURE, shown) == re.findall(STRUCTURE, on_github)


def test_tables_scroll(site: Path) -> None:
    shown = (site / "check.html").read_text(encoding="utf-8")
    assert shown.count('<div class="wide"><table>') == shown.count("<table>") > 0
    assert re.search(r"\.wide \{[^}]*overflow-x: auto", (site / "site" / "site.css").read_text(encoding="utf-8"))


def test_search_knows_the_pages(site: Path) -> None:
    index = html.unescape((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert "PortedAttention" in index
    assert '"location":"tolerances.html"' in index


def test_only_what_is_read_is_published(site: Path) -> None:
    assert [p for p in site.rglob("*") if p.suffix in (".py", ".pyc", ".yml", ".md") or p.name == "main.html"] == []


@pytest.mark.parametrize(
    ("page", "text", "said"),
    [
        ("new.md", "# New\n", 'not included in the "nav"'),
        ("run.md", "\n[there](nowhere.md)\n", "'nowhere.md'"),
        ("run.md", "\n[there](report.md#nowhere)\n", "anchor '#nowhere'"),
        ("run.md", "\n[there](../conformance/options.py)\n", "'../conformance/options.py'"),
        ("run.md", "\n![a run](images/none.png)\n", "'images/none.png'"),
        ("../README.md", "\n[there](docs/nowhere.md)\n", "'nowhere.md'"),
    ],
)
def test_a_fault_of_a_page_fails_the_build(copy: Path, tmp_path: Path, page: str, text: str, said: str) -> None:
    with (copy / "docs" / page).open("a", encoding="utf-8") as file:
        file.write(text)
    done = build(copy, tmp_path / "site")
    assert done.returncode == 1
    assert said in done.stderr
    assert "WARNING" in done.stderr or "ERROR" in done.stderr


def test_a_page_of_the_navigation_that_is_gone_fails_the_build(copy: Path, tmp_path: Path) -> None:
    (copy / "docs" / "list.md").unlink()
    done = build(copy, tmp_path / "site")
    assert done.returncode == 1
    assert "list.md" in done.stderr
