"""The values of a step in a browser: the maps, their selectors, the worst element and the histogram."""

from __future__ import annotations

import math
import re

from browser_pages import Visit
from playwright.sync_api import Locator, expect

from conformance.result import Run, Sample


def told(sample: Sample) -> dict[str, list[float | str]]:
    return {"Oracle": sample.oracle, "Observed": sample.observed, "Difference": sample.difference}


def near(shown: Locator, sample: list[float | str]) -> bool:
    """Whether these are the numbers of the sample, as three digits tell them."""
    numbers = [float(text) for each in shown.all_inner_texts() for text in each.split()]
    return [f"{float(v):.3g}" for v in sample] == [f"{n:.3g}" for n in numbers]


def test_from_the_matrix_to_a_step_and_through_its_heads(faults: Run, visit: Visit) -> None:
    page = visit(faults)
    number, case = next((n, c) for n, c in enumerate(faults.cases, 1) if c.layer == "multi_head_attention")
    place, step = next((n, s) for n, s in enumerate(case.steps, 1) if s.name == "weights")
    sample = step.sample
    assert sample is not None
    assert sample.size == sample.shape == [2, 3, 5, 5]  # batch head query key: all of it
    view = page.locator(f"#case-{number}-step-{place}")
    expect(view).to_be_hidden()
    page.locator(".matrix tbody tr").filter(has_text="multi_head_attention").get_by_role("link").click()
    page.locator(f"#case-{number} table.steps").get_by_role("link", name="weights").click()
    expect(view).to_be_in_viewport()
    for batch, head in ((0, 0), (1, 2), (0, 1)):
        view.get_by_label("batch").select_option(str(batch))
        view.get_by_label("head").select_option(str(head))
        shown = view.locator(".slice").filter(visible=True)
        expect(shown).to_have_count(1)
        expect(shown.locator(".at")).to_have_text(f"batch {batch}, head {head}")
        part = slice(25 * (3 * batch + head), 25 * (3 * batch + head) + 25)
        for title, values in told(sample).items():
            heat = shown.get_by_role("table", name=re.compile(f"^{title}"))
            assert near(heat.locator("tbody td"), values[part]), (title, batch, head)


def test_the_step_at_fault_opens_at_its_worst_element(faults: Run, visit: Visit) -> None:
    page = visit(faults)
    case = next(c for c in faults.cases if c.layer == "multi_head_attention")
    step = next(s for s in case.steps if s.name == case.culprit)
    assert step.sample is not None
    assert step.isolated is not None
    batch, head, query, key = step.isolated.at
    view = page.locator("article").filter(has_text="multi_head_attention").locator(".view")
    expect(view.get_by_label("batch")).to_have_value(str(batch))
    expect(view.get_by_label("head")).to_have_value(str(head))
    flat = ((batch * 3 + head) * 5 + query) * 5 + key
    worst = view.locator(".slice").filter(visible=True).locator("td.worst")
    expected = [values[flat] for values in told(step.sample).values()]
    assert near(worst, expected)
    places = worst.evaluate_all("cells => cells.map((c) => [c.parentElement.rowIndex - 1, c.cellIndex - 1])")
    assert places == [[query, key]] * 3
    assert near(view.locator(".near td.worst"), expected)


def test_the_numbers_of_a_map_can_be_shown_and_hidden(faults: Run, visit: Visit) -> None:
    view = visit(faults).locator("article").filter(has_text="multi_head_attention").locator(".view")
    cell = view.locator(".slice").filter(visible=True).locator("td.worst").first
    seen = "getComputedStyle(cell).fontSize !== '0px' && getComputedStyle(cell).color !== 'rgba(0, 0, 0, 0)'"
    assert cell.evaluate(f"(cell) => {seen}")
    view.get_by_label("numbers in the maps").uncheck()
    assert not cell.evaluate(f"(cell) => {seen}")


def test_the_histogram_counts_every_element(faults: Run, visit: Visit) -> None:
    page = visit(faults)
    off = [c for c in faults.cases if c.culprit]
    assert len(off) == 3
    for each in off:
        sample = next(s.sample for s in each.steps if s.name == each.culprit)
        assert sample is not None
        counts = sample.histogram  # 0.001 tolerances and less, then half decades: one tolerance is the seventh bound
        drawn = page.locator("article").filter(has_text=each.layer).locator(".spread [role=img]")
        label = drawn.get_attribute("aria-label") or ""
        assert label.startswith(f"{sum(counts[:7])} of {math.prod(sample.shape)} elements are within one tolerance")
        assert [int(n) for n in re.findall(r"(\d+) by", label)] == [n for n in counts[7:] if n]
        bars = drawn.locator(".mark-rect path").evaluate_all("all => all.map((b) => b.getBoundingClientRect().height)")
        heights = [n for n in counts if n]
        assert len(bars) == len(heights)
        assert bars.index(max(bars)) == heights.index(max(heights))
