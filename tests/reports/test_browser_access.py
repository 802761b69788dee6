"""The pages of the HTML report against axe's rules of accessibility, light and dark, with everything open."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_pages import Visit, opened


def violations(page: Any, part: str | None = None) -> list[str]:
    found = Axe().run(page, part).response["violations"]
    return [f"{v['id']}: {v['help']}: {n['html'][:200]}" for v in found for n in v["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["planted", "model", "diff", "fixtures", "all"])
def test_axe_finds_nothing(runs: dict[str, Any], visit: Visit, name: str, scheme: str) -> None:
    page = opened(visit(runs[name], color_scheme=scheme))
    found = violations(page)
    assert not found, "\n".join(found)


CELLS = """(view) => {
  const cells = view.appendChild(document.createElement("table")).insertRow();
  view.lastChild.className = "heat";
  view.lastChild.id = "shades";
  for (const shade of [...Array(21).keys()].map((n) => `v${n}`).concat("vp vm vn d0 d1 d2 d3 d4 d5".split(" "))) {
    const cell = cells.insertCell();
    cell.className = shade;
    cell.textContent = "1.23";
  }
  return cells.cells.length;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_number_can_be_read_on_every_shade(runs: dict[str, Any], visit: Visit, scheme: str) -> None:
    page = visit(runs["planted"], color_scheme=scheme)
    view = page.locator("article .view").first
    assert view.evaluate(CELLS) == 30
    assert [told for told in violations(page, "#shades") if told.startswith("color-contrast")] == []


def test_axe_finds_what_is_wrong(visit: Visit) -> None:
    page = visit("<title>x</title><p>y</p><input>")
    assert {told.split(":")[0] for told in violations(page)} >= {"html-has-lang", "label"}
