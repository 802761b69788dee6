import io
import re

from rich.console import Console
from sample_runs import case, run_of

from conformance_reports import html_page, markdown_page, terminal
from conformance_reports.matrix import Cell, matrix


def told(cell: Cell) -> tuple[str, int]:
    return cell.column.name, len(cell.cases)


def test_a_column_for_each_mode_of_an_adapter_that_has_several():
    cases = [
        case(adapter="torch", mode="compiled"),
        case(adapter="torch"),
        case(adapter="torch", dtype="float64"),
        case(adapter="jax"),
        case(adapter="keras-torch", mode="compiled"),
    ]
    (row,) = matrix(run_of(*cases)).rows
    assert [told(c) for c in row.cells] == [
        ("jax", 1),
        ("keras-torch compiled", 1),
        ("torch eager", 2),
        ("torch compiled", 1),
    ]


def test_the_modes_are_told_by_every_report():
    run = run_of(case(mode="compiled", ratio=0.4), case(ratio=0.2))
    assert "| torch eager | torch compiled |" in markdown_page.render(run).replace("`", "")
    page = html_page.render(run)
    (head,) = re.findall(r"<thead>(.*?)</thead>", page, re.S)[:1]
    assert re.sub(r"<.*?>", " ", head).split() == ["Layer", "Fixture", "torch", "eager", "torch", "compiled"]
    output = io.StringIO()
    terminal.show(run, Console(file=output, width=80))
    first, second, third = (line.split() for line in output.getvalue().splitlines()[:3])
    assert (first, second, third) == (
        ["torch", "torch"],
        ["eager", "compiled"],
        ["multi-head-attention", "0.20", "0.40"],
    )


def test_rows_of_one_layer_stand_together_and_a_folder_may_serve_two_layers():
    cases = [
        case(layer="linear", fixture="a/x"),
        case(layer="softmax", fixture="b/x"),
        case(layer="linear", fixture="c/x"),
        case(layer="softmax", fixture="a/x", ratio=0.9),
    ]
    made = matrix(run_of(*cases))
    assert {layer: [r.folder for r in rows] for layer, rows in made.layers.items()} == {
        "linear": ["a", "c"],
        "softmax": ["b", "a"],
    }
    assert [r.cells[0].ratio for r in made.layers["softmax"]] == [0.21, 0.9]


def test_a_cell_of_one_case_leads_to_it_and_one_of_several_to_all():
    page = html_page.render(run_of(case(), case(adapter="jax"), case(adapter="jax", dtype="float64")))
    assert re.findall(r'<td class="[^>]*><a href="#(.*?)"', page) == [
        "multi_head_attention:multi-head-attention:jax",
        "case-1",
    ]
