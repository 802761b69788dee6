import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from sample_runs import ADAPTERS, HOSTILE, case, every_status, hostile, run_of

from conformance.result import STATUSES, Run
from conformance_reports.html_page import render

VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(HTMLParser):
    """A page as a list of elements, each with its attributes and all the text in it. Fails on bad nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {[tag for tag, _ in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_data(" ")  # elements stand apart
        text: list[str] = []
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is given twice"
        self.elements.append((tag, dict(attrs), text))
        if tag not in VOID:
            self.open.append((tag, text))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1][0] == tag, f"</{tag}> closes <{self.open[-1][0]}>"
        self.open.pop()
        self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for _, text in self.open:
            text.append(data)

    def all(self, tag: str, **wanted: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attributes, "".join(text))
            for name, attributes, text in self.elements
            if name == tag and all(v in (attributes.get(k.rstrip("_")) or "").split() for k, v in wanted.items())
        ]

    def texts(self, tag: str, **wanted: str) -> list[str]:
        return [" ".join(text.split()) for _, text in self.all(tag, **wanted)]


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(every_status()))


@pytest.mark.parametrize(
    "run", [every_status(), hostile(), run_of(), run_of(case())], ids=["all", "hostile", "none", "1"]
)
def test_the_page_is_well_formed_and_loads_nothing(run: Run) -> None:
    page = Page(render(run))
    assert {tag for tag, _, _ in page.elements}.isdisjoint({"link", "img", "iframe", "object", "base", "form", "embed"})
    for tag, attributes, _ in page.elements:
        assert "src" not in attributes
        assert "style" not in attributes, f"the policy forbids the style attribute of {tag}"
        assert not [a for a in attributes if a.startswith("on")], f"the policy forbids the handler of {tag}"
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in page.texts("style")[0]
    assert "@import" not in page.texts("style")[0]


@pytest.mark.parametrize("run", [every_status(), hostile()], ids=["all", "hostile"])
def test_ids_are_unique_and_every_link_leads_somewhere(run: Run) -> None:
    page = Page(render(run))
    ids = [a["id"] for _, a, _ in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert not [i for i in ids if not i or re.search(r"\s", i)]
    links = [a["href"] for a, _ in page.all("a")]
    assert links
    assert {link[1:] for link in links if link} <= set(ids)
    labels = {a[k] for _, a, _ in page.elements for k in ("aria-labelledby", "aria-describedby", "for") if k in a}
    assert labels <= set(ids)


def test_the_policy_names_the_style_and_the_script_by_their_hashes_and_allows_nothing_else(page: Page) -> None:
    (policy,) = [a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    directives = dict(d.strip().split(" ", 1) for d in policy.split(";"))
    expected = {}
    for tag in ("style", "script"):
        ((_, source),) = page.all(tag)
        expected[f"{tag}-src"] = f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"
    assert directives == {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", **expected}


def test_the_title_is_the_outcome(page: Page) -> None:
    (heading,) = page.texts("h1")
    assert page.texts("title") == [f"Conformance: {heading}"]
    # Of 45 cases 8 are left out (two statuses, on two adapters, in two dtypes).
    assert heading == (
        "4 of 37 cases diverge; 4 listed as diverging conform; "
        "4 crashed, 4 timed out and 4 failed before they could be judged."
    )


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([], "Nothing was judged."),
        (["unsupported"], "Nothing was judged."),
        (["conforms"], "The one case conforms."),
        (["conforms", "conforms", "unavailable"], "All 2 cases conform."),
        (["conforms", "known-divergence"], "All 2 cases conform, apart from 1 known divergence."),
        (["conforms", "uninformative"], "All 2 cases conform, apart from 1 that nothing can be said of."),
        (["diverges"], "The one case diverges."),
        (["conforms", "diverges"], "1 of 2 cases diverges."),
        (["conforms", "crashed"], "1 crashed before it could be judged."),
    ],
)
def test_the_outcome_in_one_sentence(statuses: list[str], said: str) -> None:
    assert Page(render(run_of(*(case(s, 9.0 if "diver" in s else 0.2) for s in statuses)))).texts("h1") == [said]


def test_the_summary_counts_every_status(page: Page) -> None:
    (counts,) = page.texts("ul", class_="counts")
    assert counts == (
        "5 conform 4 diverge 4 known divergences 4 stale divergences 4 uninformative 4 inconclusive "
        "4 unsupported 4 unavailable 4 crashed 4 timed out 4 failed"
    )


def test_the_matrix_has_a_cell_for_each_fixture_and_adapter_that_leads_to_its_cases(page: Page) -> None:
    text = render(every_status())
    matrix = Page(text[text.index('<table class="matrix"') : text.index("</table>") + 8])
    assert matrix.texts("th", scope="col") == ["Layer", "Fixture", "keras-jax", "matlab", "torch"]
    assert matrix.texts("th", scope="row")[::2] == ["multi_head_attention"] * 12
    assert matrix.texts("th", scope="row")[1::2] == [*(f"{s}-fixture" for s in STATUSES), "matlab-self-attention"]
    cells = dict(zip(STATUSES, [matrix.texts("td")[i * 3] for i in range(len(STATUSES))], strict=True))
    assert cells == {
        **{s: s for s in STATUSES},
        "conforms": "0.21",
        "diverges": "diverges 3.1e5",
        "known-divergence": "known 3.1e5",
        "stale-divergence": "stale",
    }
    targets = {a["id"]: t for _, a, t in page.elements if "id" in a}
    first = matrix.all("a")[0][0]["href"]
    assert first is not None
    assert " ".join("".join(targets[first[1:]]).split()) == "keras-jax on conforms-fixture"


def test_what_diverges_comes_before_the_cases_with_its_cause(page: Page) -> None:
    headings = page.texts("h2")
    assert headings == [
        *("Matrix", "What diverges", "What failed", "Known divergences", "Cases", "Left out", "Environment"),
    ]
    articles = page.texts("article", class_="diverges")
    assert len(articles) == 2  # one for each adapter, over both dtypes
    assert articles[0].startswith("diverges-fixture/self on keras-jax")
    assert (
        "In float32, step scaled is off by 3.1e5 tolerances at batch 0 head 3 query 1 key 2; "
        "the greatest error is 2.31 absolute" in articles[0]
    )
    here, there = "1 scaled = scores", "1/sqrt(head_dim) scaled = scores / sqrt(head_dim)"
    assert f"attention.scale {here} {there} scaled" in articles[0]
    assert "Seen elsewhere: tutorial layers. No value here tells it from attention.softcap = 7." in articles[0]
    assert (
        "conformance run --fixture diverges-fixture/self --adapter keras-jax --dtype float32 --dtype float64"
        in articles[0]
    )
    (known, _) = page.texts("article", class_="known-divergence")
    assert "the message of known-divergence" in known


def test_every_case_that_was_run_has_its_steps(page: Page) -> None:
    run = every_status()
    assert len(page.all("details", class_="case")) == sum(
        c.status not in ("unsupported", "unavailable") for c in run.cases
    )
    steps = [c for c in run.cases if c.steps]
    assert len(page.all("table", class_="steps")) == len(steps)
    text = render(run_of(case("diverges", 3.1e5)))
    table = Page(text[text.index('<table class="steps"') : text.rindex("</table>") + 8])
    assert table.texts("caption") == [
        "Steps of multi-head-attention/self on torch, torch.nn.MultiheadAttention, float32"
    ]
    assert table.texts("th", scope="row") == [f"{n} batch head query key" for n in ("scores", "scaled", "output")]
    scaled = table.texts("tr", class_="diverges")
    assert scaled == [
        "scaled batch head query key diverges culprit aten.bmm.default 23: batch query key head "
        "3.1e5 2.3 0.5 0 3 1 2 3.1e5 2.3 0.5 0 3 1 2"
    ]
    assert len(table.all("td", class_="beyond")) == 3  # scaled by both, output by what adds up


def test_the_flow_marks_the_culprit() -> None:
    page = Page(render(run_of(case("diverges", 9.0))))
    flows = page.texts("ol", class_="flow")
    assert flows == ["scores scaled diverges output propagated"] * 2  # in the article and in the case
    assert page.texts("li", class_="culprit") == ["scaled diverges"] * 2


def test_it_reads_without_the_script(page: Page) -> None:
    hidden = [attributes.get("id") for _, attributes, _ in page.elements if "hidden" in attributes]
    assert hidden == ["filter", "filter-clear", "cases-filtered", "all-cases"]  # only what the script works


def test_tables_and_regions_are_named(page: Page) -> None:
    tables = [n for n, (tag, _, _) in enumerate(page.elements) if tag == "table"]
    assert all(page.elements[n + 1][0] == "caption" for n in tables)
    assert all(a.get("scope") in ("col", "row", "colgroup") for a, _ in page.all("th"))
    for attributes, _ in page.all("div", class_="scroll"):
        assert attributes.get("tabindex") == "0"
        assert attributes.get("aria-label") or attributes.get("aria-labelledby")
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert page.all("html")[0][0]["lang"] == "en"


def test_layouts_and_what_was_left_out_are_told(page: Page) -> None:
    assert page.texts("p", class_="layout") == ["scores held as key query: attention.scores-layout = key-query."]
    (left,) = page.texts("table", class_="plain")
    assert "keras-jax unsupported the message of unsupported unsupported-fixture/self" in left


def test_the_environment_and_the_command_are_at_the_end(page: Page) -> None:
    (facts,) = page.texts("dl", class_="facts")
    assert facts == ("conformance 0.1.0 numpy 2.4.0 python 3.11.2 started 2026-01-02T03:04:05+00:00 took 41.2 s")
    assert page.texts("pre")[-1].startswith("conformance run --fixture conforms-fixture/self --fixture ")


def test_hostile_text_is_text() -> None:
    text = render(hostile())
    page = Page(text)
    assert len(page.all("script")) == 1
    assert "alert(1)" not in page.texts("script")[0]
    assert not set(text) & set("\x1b\u202e\u2066\udc80")
    assert not [tag for tag, _, _ in page.elements if tag == "red"]
    shown = HOSTILE.replace("\u202e", "\\u202e").replace("\u2066", "\\u2066").replace("\x1b", "\\x1b")
    assert shown.replace("\udc80", "\\udc80") in "".join(t for _, t in page.all("p", class_="message"))
    text.encode()


def test_the_same_run_gives_the_same_page() -> None:
    assert render(every_status()) == render(every_status())


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(
    ("front", "back"),
    [
        *(("ink", b) for b in ("paper", "raised", "good", "good-mid", "good-near", "muted")),
        *((f, b) for f in ("soft", "link", "bad-text") for b in ("paper", "raised")),
        *(("good-ink", "good"), ("bad-ink", "bad"), ("known-ink", "known"), ("failed-ink", "failed")),
        *(("vague-ink", "vague"), ("soft", "muted")),
    ],
)
def test_contrast_is_that_of_wcag_aa(page: Page, front: str, back: str, dark: bool) -> None:
    light_set, dark_set = re.findall(r":root \{(.*?)\}", page.all("style")[0][1], re.S)[:2]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", dark_set if dark else light_set))
    high, low = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_a_page_of_a_thousand_cases_stays_small() -> None:
    run = run_of(*(case(fixture=f"f/{n}", adapter=ADAPTERS[n % 8]) for n in range(1000)))
    assert len(render(run)) < 5_000_000
