"""Runs and diffs as GitHub's Markdown, read with a parser of it."""

import re
import unicodedata

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from sample_runs import HOSTILE, case, every_status, hostile, run_of
from test_difference_reports import PARTS, SAME

from conformance.report import load
from conformance_reports.markdown_text import cell, code, prose
from conformance_reports.wording import visible

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
OURS = re.compile(r"</?(?:details|summary|code|span)>")
LINE = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("|\\`*_<>[]@#:$~&!-+.1 "), max_size=30)


def tokens(markdown: str) -> list[Token]:
    found = []
    for token in READER.parse(markdown):
        found += [token, *(token.children or [])]
    return found


def said(markdown: str) -> str:
    """What a reader sees of one line of Markdown."""
    return "".join(t.content for t in tokens(markdown) if t.type in ("text", "code_inline", "text_special"))


def tables(markdown: str) -> list[list[list[str]]]:
    """The tables, as rows of cells as a reader sees them."""
    made: list[list[list[str]]] = []
    before = ""
    for token in READER.parse(markdown):
        if token.type == "table_open":
            made.append([])
        elif token.type == "tr_open":
            made[-1].append([])
        elif before in ("th_open", "td_open") and token.type == "inline":
            kinds = ("text", "code_inline", "text_special")
            made[-1][-1].append("".join(t.content for t in token.children or [] if t.type in kinds))
        before = token.type
    return made


def test_the_outcome_comes_first_then_what_diverges_then_folds_then_versions() -> None:
    page = load("markdown")(run_of(case("diverges", 3.1e5), case("diverges", 2e4, dtype="float64"), case()))
    lines = page.splitlines()
    assert lines[0] == "### 2 of 3 cases diverge."
    assert lines[2] == "1 conforms, 2 diverge in 41.2 s."
    told = tables(page)[0]
    assert told == [
        ["what", "step", "error in tolerances", "cause"],
        ["multi-head-attention/self on torch, float32 and float64", "scaled", "3.1e5", "attention.scale = 1"],
    ]
    folded = page[page.index("<details>") :]
    assert "because `attention.scale = 1`, where the layer has" in folded
    assert "  - here: `scaled = scores`\n  - the layer: `scaled = scores / sqrt(head_dim)`\n" in folded
    (command,) = [t for t in tokens(page) if t.type == "fence"]
    assert command.content.splitlines()[0] == "conformance explain multi_head_attention"
    assert lines[-1] == "Versions: `conformance` `0.1.0`, `numpy` `2.4.0`, `python` `3.11.2`"


def test_what_conforms_has_no_table_of_what_diverges() -> None:
    page = load("markdown")(run_of(case()))
    assert page.startswith("### The one case conforms.\n")
    assert "error in tolerances" not in page


def test_every_status_is_told() -> None:
    page = load("markdown")(every_status())
    first = tables(page)[0]
    # keras-jax and torch, each once for both dtypes: one that diverges, one stale, three that failed
    assert [row[1] for row in first[1:]] == [
        *("scaled", "scaled", "stale", "stale", "crashed", "crashed", "timed out", "timed out", "error", "error")
    ]
    assert "the message of crashed" in first[5][3]
    for fold in ("Every fixture", "Known divergences", "Left out"):
        assert f"<summary>{fold}</summary>" in page
    assert page.count("<details>") == page.count("</details>") == 10 + 3


def test_a_checked_layer_has_its_steps_and_a_model_its_layers() -> None:
    one = case("diverges", 9.0, fixture="", subject="Ported")
    page = load("markdown")(run_of(one))
    assert "Ported on torch, float32, asked to be multi_head_attention" in tables(page)[0][1][0]
    assert tables(page)[1][2] == ["scaled", "9.0", "9.0", "aten.bmm.default, batch query key head"]
    page = load("markdown")(run_of(one, case(fixture="", subject="Other")))
    assert tables(page)[1][2] == ["Other", "multi_head_attention", "conforms", "0.21"]


def test_a_hint_is_no_cause() -> None:
    finding = msgspec.structs.replace(case("diverges", 9.0).diagnosis[0], explains=False)
    assert "`attention.scale = 1` (a hint)" in load("markdown")(run_of(case("diverges", 9.0, diagnosis=[finding])))
    assert "unexplained" in tables(load("markdown")(run_of(case("diverges", 9.0, diagnosis=[]))))[0][1][3]


@pytest.mark.parametrize("run", [hostile(), msgspec.structs.replace(PARTS, message=HOSTILE, inputs=HOSTILE)])
def test_names_that_mean_harm_are_text(run: object) -> None:
    page = load("markdown")(run)
    assert not {unicodedata.category(c) for c in page if c != "\n"} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    for token in tokens(page):
        if token.type == "html_inline":
            assert OURS.fullmatch(token.content), token.content
        if token.type == "html_block":
            assert set(re.findall(r"<[^>]*>", token.content)) <= set(OURS.findall(token.content)), token.content
        assert token.type not in ("link_open", "image", "heading_close") or token.markup == "###"


def bare(text: str) -> str:
    return "".join(text.replace("`", "").split())


@given(LINE)
def test_prose_is_read_as_it_was_written(text: str) -> None:
    """All of it but the backticks around names, which become code, and white space."""
    assert bare(said(prose(text))) == bare(visible(" ".join(text.split())))


@given(LINE)
def test_code_is_read_as_it_was_written_in_a_table_too(text: str) -> None:
    wanted = visible(" ".join(text.split()))
    assert said(code(text)) == wanted
    assert tables(f"| a | b |\n| --- | --- |\n| {cell(code(text))} | x |\n") == [[["a", "b"], [wanted, "x"]]]


@given(LINE)
def test_prose_stays_in_its_cell(text: str) -> None:
    ((_, row),) = tables(f"| a | b |\n| --- | --- |\n| {cell(prose(text))} | x |\n")
    assert row[1:] == ["x"]


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("uses @tf.function", "uses <span>@</span>tf.function"),
        ("see #12", "see <span>#</span>12"),
        ("https://example.org", "https<span>:</span>//example.org"),
        ("www.example.org", "www<span>.</span>example.org"),
        (":smile:", "<span>:</span>smile:"),
        ("$x$", "<span>$</span>x<span>$</span>"),
    ],
)
def test_what_github_would_turn_into_something_else_is_parted(text: str, markdown: str) -> None:
    assert prose(text) == markdown


@pytest.mark.parametrize("letter", ["x", "é", "|", "\U0001f600", "\u202e", "@", "`"])
def test_no_page_is_longer_than_github_takes(letter: str) -> None:
    """Each case is a problem of its own; a page for all of them would be megabytes long."""
    cases = [case("error", fixture=f"{letter * 300}{n}", message=f"{letter * 5000} {n}") for n in range(500)]
    run = msgspec.structs.replace(run_of(*cases), environment={f"{letter * 200}{n}": letter * 900 for n in range(99)})
    page = load("markdown")(run)
    assert 30_000 < len(page.encode()) < 65_536
    assert page.startswith("### 500 failed before they could be judged.\n")
    assert "*This is cut to what GitHub takes, 65,536 characters" in page
    assert "and 60 more" in page.splitlines()[-1]
    assert page.count("<details>") == page.count("</details>") >= 1
    assert len(tables(page)[0]) > 3  # rows of what diverges have a half of the room


def test_a_page_that_fits_is_not_cut() -> None:
    assert "This is cut" not in load("markdown")(every_status())


def test_a_diff_says_where_the_models_part() -> None:
    page = load("markdown")(PARTS)
    assert page.startswith("### The two models part at `aten.addmm.default` in `layers.1.linear1`.\n")
    assert tables(page)[0][2] == [
        "B",
        "<b>encoder.onnx",
        "onnxruntime",
        "float32",
        "MatMul in /layers.1/linear1/MatMul",
    ]
    assert tables(page)[1][1][3] == "0.25"
    assert page.endswith("Versions: `conformance` `0.1.0`, `torch` `2.13.0`\n")
    assert load("markdown")(SAME).startswith("### The two models compute the same.\n")
