"""The HTML report in a browser, as its readers use it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from browser_pages import NOT_RUN, WATCH, Visit, Watch, filtered, folders, lines, opened, rows
from browser_runs import HURTS, hurting
from playwright.sync_api import Browser, Locator, Page, expect
from sample_runs import case, every_status, run_of

from conformance.result import STATUSES, Case, Run
from conformance_reports import json_file
from conformance_reports.html_page import render
from conformance_reports.wording import tolerances

WIDTHS = (1280, 400)  # a desk and a phone


# -- it opens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("planted", "3 of 4 cases diverge."),
        ("model", "All 4 cases conform."),
        ("diff", r"The two models part at aten.*"),
        ("fixtures", r"All \d+ cases conform, apart from \d+ known divergences."),
        ("all", r"4 of 37 cases diverge; .*"),
        ("hostile", r"1 of 9 cases diverges; .*"),
    ],
)
def test_a_page_opens_with_its_outcome_and_asks_for_nothing(
    runs: dict[str, Run], visit: Visit, name: str, outcome: str
) -> None:
    page = visit(runs[name])
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(outcome))
    expect(page).to_have_title(re.compile(f"Conformance: {outcome}"))


def test_what_a_page_should_not_do_is_noticed(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    bad = '<p style="color: red"></p><img src="https://example.com/x.png"><script>alert(1)</script></main>'
    file.write_text(render(run_of(case())).replace("</main>", bad), "utf-8")
    page = browser.new_context(offline=True).new_page()
    page.add_init_script(WATCH)
    watch = Watch(page)
    page.goto(file.as_uri())
    found = " ".join(watch.found())
    page.context.close()
    assert all(f"violation of {directive}" in found for directive in ("style-src-attr", "img-src", "script-src-elem"))
    assert "dialog" not in found  # the policy keeps it from running


# -- the filter --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "fits"),
    [
        ("diverges float32", lambda c: c.status == "diverges" and c.dtype == "float32"),
        ("KERAS  conforms-", lambda c: c.adapter == "keras-jax" and "conforms-" in c.fixture),
        ("unsupported float64", lambda c: c.status == "unsupported" and c.dtype == "float64"),
        ("multi_head_attention matlab", lambda c: c.adapter == "matlab"),
        ("no such thing", lambda c: False),
    ],
)
def test_words_choose_the_cases_that_have_them_all(visit: Visit, words: str, fits: Callable[[Case], bool]) -> None:
    run = every_status()
    page = visit(run)
    page.get_by_label("Show cases with").fill(words)
    filtered(page, run, fits)
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_role("status")).to_have_text(f"all {len(run.cases)} cases")
    expect(page.get_by_label("Show cases with")).to_be_focused()
    assert rows(page) == folders(run.cases)


def test_boxes_choose_cases_by_their_values(visit: Visit) -> None:
    run = every_status()
    page = visit(run)

    def box(value: str) -> Locator:
        return page.get_by_role("checkbox", name=re.compile(f"^{value} "))

    for status in STATUSES:
        number = sum(c.status == status for c in run.cases)
        expect(box(status)).to_have_accessible_name(f"{status} {number}")
        box(status).check()
        filtered(page, run, lambda c, status=status: c.status == status)
        box(status).uncheck()
    box("diverges").check()
    box("unavailable").check()
    filtered(page, run, lambda c: c.status in ("diverges", "unavailable"))
    box("torch").check()
    filtered(page, run, lambda c: c.status in ("diverges", "unavailable") and c.adapter == "torch")
    page.get_by_label("Show cases with").fill("float64")
    filtered(
        page, run, lambda c: c.status in ("diverges", "unavailable") and (c.adapter, c.dtype) == ("torch", "float64")
    )
    expect(page.get_by_text("Some cases are hidden by the filter.")).to_be_visible()
    page.get_by_role("button", name="Show all").click()
    expect(page.get_by_text("Some cases are hidden by the filter.")).to_be_hidden()
    expect(page.locator(":checked:visible")).to_have_count(0)


def test_modes_are_columns_and_can_be_chosen(visit: Visit) -> None:
    run = run_of(*(case(mode=mode, dtype=d) for mode in ("eager", "compiled") for d in ("float32", "float64")))
    page = visit(run)
    assert [" ".join(t.split()) for t in page.locator(".matrix thead th").all_inner_texts()] == [
        *("Layer", "Fixture", "torch eager", "torch compiled"),
    ]
    page.get_by_role("checkbox", name="compiled").check()
    filtered(page, run, lambda c: c.mode == "compiled")
    cells = page.locator(".matrix tbody td a")
    expect(cells.first).to_be_hidden()
    expect(cells.last).to_be_visible()


def test_the_cases_of_fixtures_are_counted_as_they_ran(runs: dict[str, Run], visit: Visit) -> None:
    run = runs["fixtures"]
    page = visit(run)
    expect(lines(page)).to_have_count(sum(c.status not in NOT_RUN for c in run.cases))
    page.get_by_label("Show cases with").fill("layer-norm onnxruntime float64")
    filtered(page, run, lambda c: (c.layer, c.adapter, c.dtype) == ("layer_norm", "onnxruntime", "float64"))


# -- links -------------------------------------------------------------------------------------------------------------


def test_a_cell_leads_to_its_case_whose_figures_are_those_of_the_run(faults: Run, visit: Visit) -> None:
    page = visit(faults)
    told = json.loads(json_file.render(faults))["cases"]
    (number,) = [i for i, c in enumerate(told) if c["layer"] == "layer_norm"]
    steps = page.locator(f"#case-{number + 1} table.steps")
    expect(steps).to_be_hidden()
    row = page.locator(".matrix tbody tr").filter(has_text="layer_norm")
    row.get_by_role("link", name="diverges").click()
    expect(steps).to_be_visible()
    expect(page.locator(f"#case-{number + 1}")).to_be_in_viewport()
    shown = [r.locator("th, td").all_inner_texts() for r in steps.locator("tbody tr").all()]
    for cells, step in zip(shown, told[number]["steps"], strict=True):
        assert cells[0].split("\n")[0] == step["name"]
        assert cells[1].startswith(step["status"])
        errors = [cells[3], cells[7]]
        assert errors == [tolerances(float(step[figure]["ratio"])) for figure in ("isolated", "accumulated")]
        assert [int(i) for i in cells[6].split()] == step["isolated"]["at"]
    assert next(c[1] for c in shown if c[0].startswith("normalized")) == "diverges culprit"


def test_a_cell_of_several_cases_leads_to_their_heading(visit: Visit) -> None:
    page = visit(every_status())
    page.locator(".matrix tbody tr").filter(has_text="crashed-fixture").get_by_role("link").last.click()
    heading = page.get_by_role("heading", name="torch on crashed-fixture")
    expect(heading).to_be_in_viewport()
    expect(heading).to_be_focused()


@pytest.mark.parametrize("script", [True, False])
def test_an_address_with_a_case_opens_it(visit: Visit, script: bool) -> None:
    page = visit(every_status(), "#case-7", java_script_enabled=script)
    expect(page.locator("#case-7")).to_be_in_viewport()
    expect(page.locator("#cases details[open]")).to_have_count(1)


def test_a_link_to_what_the_filter_hides_shows_it(visit: Visit) -> None:
    run = every_status()
    page = visit(run)
    page.get_by_label("Show cases with").fill("crashed")
    number = next(i for i, c in enumerate(run.cases, 1) if c.status == "diverges")
    expect(page.locator(f"#case-{number}")).to_be_hidden()
    page.locator(f'article a[href="#case-{number}"]').click()
    expect(page.locator(f"#case-{number}")).to_be_in_viewport()
    expect(page.get_by_label("Show cases with")).to_have_value("")


def test_the_cases_that_show_are_opened_and_closed_together(visit: Visit) -> None:
    page = visit(every_status())
    page.get_by_label("Show cases with").fill("stale-divergence keras-jax")
    page.get_by_role("button", name="Open all").click()
    expect(page.locator("#cases details.case[open]")).to_have_count(2)
    page.get_by_role("button", name="Close all").click()
    expect(page.locator("#cases details.case[open]")).to_have_count(0)


# -- without a mouse, without a script, on paper -----------------------------------------------------------------------


def test_the_keyboard_reaches_the_filter_and_opens_a_case(visit: Visit) -> None:
    page = visit(every_status())
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the results")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#main$"))
    page.keyboard.press("Tab")
    expect(page.get_by_label("Show cases with")).to_be_focused()
    page.keyboard.type("known")
    expect(page.get_by_role("status")).to_have_text("4 of 45 cases")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Show all")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("checkbox", name="conforms 5")).to_be_checked()
    page.keyboard.press("Space")
    lines(page).first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#cases details.case[open]")).to_have_count(1)
    page.keyboard.press("Tab")  # into what was opened
    assert page.evaluate("document.activeElement.closest('.inside') !== null")


def test_everything_is_there_without_the_script(faults: Run, visit: Visit) -> None:
    page = visit(faults, java_script_enabled=False)
    for hidden in ("#filter", "#all-cases", "#cases-filtered"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator(".matrix tbody tr")).to_have_count(len({c.layer for c in faults.cases}))
    expect(lines(page)).to_have_count(len(faults.cases))
    for line in lines(page).all():
        line.click()
    expect(page.locator("table.steps").filter(visible=True)).to_have_count(len(faults.cases))
    case = next(c for c in faults.cases if c.layer == "multi_head_attention")
    view = page.locator("article").filter(has_text="multi_head_attention").locator(".view")
    batch, head, _, _ = next(s.sample for s in case.steps if s.name == case.culprit).size
    expect(view.locator(".slice").filter(visible=True)).to_have_count(batch * head)
    expect(view.locator("select").filter(visible=True)).to_have_count(0)


def test_on_paper_nothing_is_lost_but_what_works_by_the_script(runs: dict[str, Run], visit: Visit) -> None:
    run = runs["fixtures"]
    page = visit(run)
    page.emulate_media(media="print")
    for control in ("nav", "#filter", "#all-cases"):
        expect(page.locator(control)).to_be_hidden()
    expect(lines(page)).to_have_count(sum(c.status not in NOT_RUN for c in run.cases))
    assert rows(page) == folders(run.cases)
    for table in page.locator("table:not(details *, [hidden] *)").all():
        expect(table).to_be_visible()
    overflowing = page.evaluate("[...document.querySelectorAll('.scroll')].map((e) => getComputedStyle(e).overflowX)")
    assert set(overflowing) == {"visible"}
    assert page.pdf().startswith(b"%PDF")


def test_light_and_dark_are_the_reader_s(visit: Visit) -> None:
    papers = {}
    for scheme in ("light", "dark"):
        page = visit(run_of(case(), case(dtype="float64")), color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        papers[scheme] = sum(int(n) for n in re.findall(r"\d+", colour)[:3]) / 3
    assert papers["light"] > 200
    assert papers["dark"] < 60


# -- names that hurt, and many of them ---------------------------------------------------------------------------------


def too_wide(page: Page) -> list[int]:
    """The widths of window at which the page is wider than it."""
    found = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        wide, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert room >= width - 20  # a scroll bar
        found += [width] if wide > room else []
    return found


def test_names_that_hurt_are_text(visit: Visit) -> None:
    run = hurting()
    page = opened(visit(run))
    assert page.evaluate("window.hurt") is None
    shown = HURTS.translate({ord(c): f"\\u{ord(c):04x}" for c in "\u202e\u2066\udc80"} | {0x1B: "\\x1b"})
    bare = " ".join(shown.split())
    for place in (".matrix tbody th >> nth=0", ".message >> nth=0", "details.case summary code >> nth=0"):
        expect(page.locator(place)).to_contain_text(bare)
    assert page.evaluate("document.querySelectorAll('img, main script, main svg[onload]').length") == 0
    assert not too_wide(page)
    page.get_by_role("checkbox", name="unsupported").check()
    expect(page.get_by_role("status")).to_have_text("1 of 11 cases")


@pytest.mark.parametrize("name", ["planted", "model", "diff", "fixtures", "all"])
def test_only_tables_are_wider_than_the_window(runs: dict[str, Run], visit: Visit, name: str) -> None:
    page = opened(visit(runs[name]))
    assert not too_wide(page)


# -- a thousand cases --------------------------------------------------------------------------------------------------


def thousand(runs: dict[str, Run], *names: str) -> Run:
    """A thousand cases of these runs, each of another fixture."""
    cases = [c for name in names for c in runs[name].cases]
    return run_of(
        *(msgspec.structs.replace(cases[n % len(cases)], fixture=f"fixture-{n % 125}/form-{n}") for n in range(1000))
    )


def test_a_thousand_cases_make_less_than_20_megabytes_and_are_filtered(runs: dict[str, Run], visit: Visit) -> None:
    run = thousand(runs, "planted", "fixtures")
    text = render(run)
    assert len(text.encode()) < 20e6
    page = visit(text)
    page.get_by_label("Show cases with").fill("form-99")
    filtered(page, run, lambda c: "form-99" in c.fixture)
