import re
from io import StringIO

import pytest
from msgspec.structs import replace
from rich.cells import cell_len
from rich.console import Console
from sample_runs import ADAPTERS, HOSTILE, LONGEST_FOLDER, SCALE, case, deviation, every_status, hostile, run_of, step

from conformance.result import STATUSES, Run
from conformance_reports.terminal import show


def shown(run: Run, width: int = 80, **options: object) -> str:
    out = StringIO()
    show(run, Console(width=width, file=out, **options))  # type: ignore[arg-type]
    return out.getvalue()


def row(text: str, folder: str) -> list[str]:
    (line,) = [x for x in text.splitlines() if x.startswith(folder + " ")]
    return line.split()[1:]


def on_every_adapter(status: str, ratio: float | str | None = 0.21) -> Run:
    return run_of(*(case(status, ratio, adapter=a, fixture=LONGEST_FOLDER) for a in ADAPTERS))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("ratio", [0.21, 1.3e-7, 0.0123, 12345.0, 4.56e15])
def test_the_matrix_of_eight_adapters_and_the_longest_folder_fits_80_columns(status: str, ratio: float) -> None:
    text = shown(on_every_adapter(status, ratio))
    matrix = text.split("\n\n")[0].splitlines()
    assert max(cell_len(line) for line in matrix) <= 80
    (line,) = [x for x in matrix if x.startswith(LONGEST_FOLDER)]
    assert len(line.split()) == 9  # one line holds the folder and a whole word for each adapter


def test_the_matrix_with_every_status_in_one_row_fits_80_columns() -> None:
    statuses = ("diverges", "inconclusive", "unavailable", "uninformative", "diverges", *["conforms"] * 3)
    cells = zip(ADAPTERS, statuses, strict=True)
    text = shown(run_of(*(case(s, adapter=a, fixture=LONGEST_FOLDER) for a, s in cells)))
    assert max(cell_len(line) for line in text.split("\n\n")[0].splitlines()) <= 80


def test_every_adapter_has_its_column_under_its_name() -> None:
    text = shown(run_of(*(case(ratio=n + 0.5, adapter=a) for n, a in enumerate(("jax", "keras-jax", "torch")))))
    assert text.splitlines()[0].split() == ["keras"]
    assert text.splitlines()[1].split() == ["jax", "jax", "torch"]
    assert row(text, "multi-head-attention") == ["0.50", "1.5", "2.5"]


def test_cells_say_what_their_statuses_are() -> None:
    text = shown(every_status(), width=100)
    said = {s: row(text, f"{s}-fixture") for s in STATUSES}
    assert said == {
        "conforms": ["0.21"] * 2,
        "diverges": ["DIVERGES"] * 2,
        "known-divergence": ["known"] * 2,
        "stale-divergence": ["STALE"] * 2,
        "uninformative": ["uninf"] * 2,
        "inconclusive": ["inconcl"] * 2,
        "unsupported": ["-"] * 2,
        "unavailable": ["absent"] * 2,
        "crashed": ["crash"] * 2,
        "timeout": ["time"] * 2,
        "error": ["error"] * 2,
    }


def test_a_cell_holds_the_worst_ratio_of_its_forms_dtypes_and_subjects() -> None:
    text = shown(
        run_of(
            case(ratio=0.1, fixture="f/a"),
            case(ratio=0.3, fixture="f/b", dtype="float64"),
            case(ratio=0.2, fixture="f/a", subject="other"),
        )
    )
    assert row(text, "f") == ["0.30"]


def test_a_known_divergence_among_them_is_an_asterisk_and_its_ratio_does_not_count() -> None:
    text = shown(run_of(case(ratio=0.25, fixture="f/a"), case("known-divergence", 1e9, fixture="f/b")))
    assert row(text, "f") == ["0.25*"]
    assert "* besides known divergences" in text


def test_one_divergence_outweighs_all_that_conforms() -> None:
    text = shown(run_of(case(fixture="f/a"), case("diverges", 9.0, fixture="f/b"), case("crashed", fixture="f/c")))
    assert row(text, "f") == ["DIVERGES"]


def test_the_legend_has_only_what_occurs() -> None:
    text = shown(run_of(case()))
    legend = text.splitlines()[2]
    assert legend == "number worst error, in tolerances"
    assert "not installed" in shown(run_of(case(), case("unavailable", adapter="jax")))


def test_a_divergence_is_told_in_words_with_its_cause_and_what_to_do() -> None:
    lines = shown(run_of(case("diverges", 3.1e5)))
    text = " ".join(lines.split())
    assert "DIVERGES multi-head-attention/self on torch, float32" in text
    assert (
        "step `scaled` is off by 3.1e5 tolerances at batch 0 head 3 query 1 key 2; the greatest error is 2.31 absolute"
        in text
    )
    assert "by itself it conforms" not in text
    assert "found on the tape as `aten.bmm.default`, operation 23, held as batch query key head" in text
    assert (
        "  because `attention.scale = 1`, where the layer has 1/sqrt(head_dim)\n"
        "    here:      scaled = scores\n"
        "    the layer: scaled = scores / sqrt(head_dim)\n"
        "    seen elsewhere: tutorial layers\n"
    ) in lines
    assert "the scores are not divided" not in text  # the formulas say it
    assert "no value here tells it from attention.softcap = 7" in text
    assert "conformance explain multi_head_attention" in text


def test_a_long_formula_is_broken_below_itself() -> None:
    long = "gate = clip(0.2 * (x @ kernel + hidden_before @ recurrent_kernel + bias) + 0.5, 0, 1)"
    text = shown(run_of(case("diverges", 9.0, diagnosis=[replace(SCALE, formula=long, seen="")])))
    assert (
        "    here:      gate = clip(0.2 * (x @ kernel + hidden_before @ recurrent_kernel\n"
        "               + bias) + 0.5, 0, 1)\n"
        "    the layer: scaled = scores / sqrt(head_dim)\n"
        "    no value here"
    ) in text


@pytest.mark.parametrize("change", [{"explains": False}, {"formula": "", "canonical_formula": ""}])
def test_a_hint_and_what_has_no_formula_keep_their_sentence(change: dict[str, object]) -> None:
    text = shown(run_of(case("diverges", 9.0, diagnosis=[replace(SCALE, **change)])))
    assert "    the scores are not divided\n" in text
    assert "here:" not in text


def test_a_command_can_be_copied() -> None:
    name = "multi-head-attention/no output"
    text = shown(run_of(case("diverges", 9.0, fixture=name, adapter="keras-tensorflow", mode="compiled")))
    command = text[text.index("$ conformance run") + 2 :].split("\n\n")[0].replace("\\\n", " ")
    assert command.split() == [
        *("conformance", "run", "--fixture", "'multi-head-attention/no", "output'"),
        *("--adapter", "keras-tensorflow", "--dtype", "float32", "--mode", "compiled"),
    ]
    assert max(map(len, text.splitlines())) <= 80


def test_the_same_problem_in_two_dtypes_is_one_block_with_the_worse_figures() -> None:
    text = shown(run_of(case("diverges", 9.0), case("diverges", 3.1e5, dtype="float64")))
    assert text.count("DIVERGES  multi-head-attention/self") == 1
    assert "on torch, float32 and float64" in text
    assert "in float64, step `scaled` is off by 3.1e5 tolerances" in text
    assert "--dtype float32 --dtype float64" in text.replace("\\\n      ", "")


def test_problems_that_differ_are_not_merged() -> None:
    other = case("diverges", 9.0, dtype="float64", diagnosis=[])
    text = shown(run_of(case("diverges", 9.0), other))
    assert text.count("DIVERGES  multi-head-attention/self") == 2
    assert "unexplained: no known convention gives these values" in text


def test_the_place_of_a_fault_that_was_not_pinned_down_is_a_range() -> None:
    faulty = step("scaled", 9.0, "diverges", found=None, accumulated=None)
    text = shown(run_of(case("diverges", steps=[faulty, step("context", 0.1)], culprit_until="context")))
    assert "the tensor closest to step `scaled` is off by 9 tolerances" in text
    assert "may lie anywhere up to `context`, the next step that was found" in " ".join(text.split())
    assert "not found on the tape" in text


def test_what_only_adds_up_is_not_blamed_on_the_step_itself() -> None:
    steps = [step("output", 0.5, "propagated", accumulated=deviation(3.0))]
    text = " ".join(shown(run_of(case("diverges", steps=steps, culprit="output", diagnosis=[]))).split())
    assert "step `output` is off by 3 tolerances" in text
    assert "by itself it conforms, so this adds up over the steps before it" in text


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (deviation("inf", "inf"), "has an infinity or NaN that does not belong there"),
        (deviation("inf", 0.5), "where rounding explains nothing; the greatest error is 0.5 absolute"),
    ],
)
def test_infinite_ratios_are_said_in_words(told: object, said: str) -> None:
    steps = [step("scaled", 1.0, "diverges", isolated=told)]
    assert said in shown(run_of(case("diverges", steps=steps)), width=200)


def test_another_shape_is_said_in_words() -> None:
    steps = [step("scaled", 1.0, "diverges", isolated=deviation("inf", "inf"), flags=["another-shape"])]
    assert "step `scaled` has another shape" in shown(run_of(case("diverges", steps=steps)), width=200)


@pytest.mark.parametrize("status", ["crashed", "timeout", "error", "stale-divergence"])
def test_failures_show_their_message_and_how_to_run_them_again(status: str) -> None:
    text = shown(run_of(case(status)))
    assert f"the message of {status}" in text
    assert "conformance run --fixture multi-head-attention/self --adapter torch" in text
    assert "conformance explain" not in text


def test_a_known_divergence_says_where_and_why_with_the_reason_shortened() -> None:
    reason = "the framework says so " * 20
    text = shown(run_of(case("known-divergence", 9.0, message=reason)), width=160)
    (where, why) = text.splitlines()[-4:-2]
    assert where == "  torch torch.nn.MultiheadAttention, float32: multi-head-attention/self, at scaled"
    assert why.startswith("    attention.scale = 1 - the framework says so")
    assert why.endswith("…")
    assert cell_len(why) <= 160


def test_known_divergences_of_one_entry_are_told_once() -> None:
    fixtures = ["multi-head-attention/self", "multi-head-attention/no-output-projection"]
    text = shown(run_of(*(case("known-divergence", 9.0, fixture=f) for f in fixtures)))
    assert text.splitlines()[-4:-2] == [
        "  torch torch.nn.MultiheadAttention, float32: 2 fixtures, at scaled",
        "    attention.scale = 1 - the message of known-divergence",
    ]


def test_a_layout_is_one_line_whatever_the_number_of_dtypes() -> None:
    layout = every_status().cases[-1]
    text = shown(run_of(layout, layout))
    assert "matlab-self-attention matlab: `scores` held as key query: attention.scores-layout = key-query" in " ".join(
        text.split()
    )
    assert text.count("attention.scores-layout") == 1


def test_the_last_line_counts_and_says_what_was_left_out() -> None:
    run = run_of(case(), case(), case("diverges", 9.0), case("unsupported"), case("unavailable"), case("unavailable"))
    assert shown(run).splitlines()[-1] == "2 conform, 1 diverges in 41.2 s; left out: 1 unsupported, 2 unavailable"


def test_an_empty_run_says_so() -> None:
    assert shown(run_of()).strip() == "nothing was judged in 41.2 s"


def test_the_whole_report_fits_80_columns() -> None:
    assert max(cell_len(line) for line in shown(every_status()).splitlines()) <= 80


def test_there_is_no_colour_where_there_is_no_terminal() -> None:
    assert "\x1b" not in shown(every_status())


def test_divergences_are_red_and_known_ones_are_not() -> None:
    text = shown(
        every_status(), force_terminal=True, color_system="standard", width=100, legacy_windows=False, no_color=False
    )
    assert re.search(r"\x1b\[1;31m *DIVERGES", text)
    assert re.search(r"\x1b\[33m *known", text)
    assert re.search(r"\x1b\[32m *0.21", text)


def test_hostile_text_neither_colours_nor_reorders_nor_vanishes() -> None:
    text = shown(hostile(), width=400, force_terminal=False)
    assert not set(text) & set("\x1b\u202e\u2066\udc80")
    assert "[red]x[/red] [/] `b` \\u202ecod.exe\\u2066 \\x1b[31m:smile:" in text
    assert "\\udc80" in text
    assert HOSTILE not in text
    text.encode()  # what is printed can be encoded
    assert max(cell_len(line) for line in shown(hostile()).splitlines() if " \\" not in line and "$" not in line) <= 80
