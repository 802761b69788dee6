"""The run as one HTML page: self-contained, without network, readable without JavaScript."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import cache
from urllib.parse import quote

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from conformance.difference import Difference
from conformance.gated import Gated
from conformance.result import Case, Deviation, Run
from conformance_reports import gate_wording, reproduction, wording
from conformance_reports.histogram import histogram, spread
from conformance_reports.html_filter import groups, left
from conformance_reports.matrix import Cell, cell_text, matrix
from conformance_reports.problem import problems
from conformance_reports.step_view import feeds_back, levels, views

_SECTIONS = (
    ("diverges", "What diverges", ("diverges", "stale-divergence")),
    ("failed", "What failed", ("crashed", "timeout", "error")),
    ("known", "Known divergences", ("known-divergence",)),
)
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'"
_FAILED = ("crashed", "timeout", "error")


def render(run: Run | Difference) -> str:
    """`run` as a page. Its only parts from elsewhere are text, and are escaped; style and script are named
    in its content security policy by their hashes, and nothing else may run or load."""
    if isinstance(run, Difference):
        from conformance_reports import difference_page  # it is made of this module's templates

        return difference_page.render(run)
    whole = run
    if isinstance(run, Gated):  # what is gone has no case of its own
        run = msgspec.structs.replace(run, cases=[case for case in run.cases if case.change != "gone"])
    pages = templates()
    style, script = source("page.css", "step.css"), source("page.js", "step.js")
    identifiers = {id(case): f"case-{number}" for number, case in enumerate(run.cases, 1)}
    cells = matrix(run)
    sections = [(key, title, problems(run, statuses)) for key, title, statuses in _SECTIONS]
    seen = views(run, identifiers)
    first = [problem.worst for _, _, found in sections for problem in found]
    return pages.get_template("page.html.j2").render(
        run=run,
        style=Markup(style),
        script=Markup(script),
        policy=f"{POLICY}; style-src {hashed(style)}; script-src {hashed(script)}",
        outcome=gate_wording.outcome(whole) if isinstance(whole, Gated) else wording.outcome(run),
        changes=gate_wording.rows(whole) if isinstance(whole, Gated) else None,
        matrix=cells,
        with_fixtures=any(c.fixture for c in run.cases),
        filter_groups=groups(run),
        starred=any("*" in cell_text(c) for c in cells.cells),
        sections=sections,
        views=lambda case: seen.get(id(case), {}),
        shown={v.identifier for c in first for v in seen.get(id(c), {}).values() if v.step.name == c.culprit},
        left_out=_left_out(run),
        identifier=lambda case: identifiers[id(case)],
        target=lambda cell: _target(cell, identifiers),
    )


@cache
def templates() -> Environment:
    """The templates, with their filters."""
    pages = Environment(
        loader=PackageLoader("conformance_reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    pages.filters |= {
        "code": _code,
        "figure": wording.figure,
        "counted": lambda number, status: wording.counted(status, number),
        "listed": wording.listed,
        "kind": _kind,
        "cell_text": cell_text,
        "left": left,
        "cell_title": _cell_title,
        "cell_extra": _cell_extra,
        "error": _error,
        "ran": _ran,
    }
    pages.globals |= {
        "wording": wording,
        "gate_wording": gate_wording,
        "anchor": _anchor,
        "warmth": _warmth,
        "levels": levels,
        "feeds_back": feeds_back,
        "histogram": lambda counts: histogram(tuple(counts)),
        "spread": spread,
        "reproduction": reproduction,
    }
    return pages


def _finalized(value: object) -> object:
    """What a template prints: text from elsewhere with nothing unseen in it."""
    return wording.visible(value) if type(value) is str else value


def source(*names: str) -> str:
    """The text of styles or scripts."""
    loader = templates().loader
    assert loader is not None
    return "".join(loader.get_source(templates(), name)[0] for name in names)


def hashed(text: str) -> str:
    """How a content security policy names a style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _code(text: str) -> Markup:
    """Text with what stands between backticks as code."""
    pieces = wording.visible(text).split("`")
    marked = Markup()
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        if number % 2 and not last:
            marked += Markup("<code>") + escape(piece) + Markup("</code>")
        else:
            marked += escape("`" + piece if number % 2 else piece)
    return marked


def _anchor(cell: Cell) -> str:
    """The id of a cell's cases: one-to-one (no name has a bare colon in it here), and safe in an address."""
    names = (cell.layer, cell.folder, cell.column.adapter, *filter(None, [cell.column.told]))
    return ":".join(quote(name, safe="", errors="surrogatepass") for name in names)


def _target(cell: Cell, identifiers: dict[int, str]) -> str:
    """Where a cell leads: to its case or its cases, or to what was left out."""
    ran = _ran(cell.cases)
    if len(ran) == 1:
        return identifiers[id(ran[0])]
    return _anchor(cell) if ran else "left-out"


def _ran(cases: Iterable[Case]) -> list[Case]:
    """Those of `cases` that were run."""
    return [c for c in cases if c.status not in wording.LEFT_OUT]


def _left_out(run: Run) -> list[tuple[str, str, str, list[str]]]:
    """Adapter, status, reason and fixtures of what was not run, with its dtype where that is not all."""
    reasons: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for case in run.cases:
        if case.status in wording.LEFT_OUT:
            dtypes = reasons.setdefault((case.adapter, case.status, case.message or ""), {})
            dtypes.setdefault(case.fixture or case.layer, []).append(case.dtype)
    every = {c.dtype for c in run.cases}
    return [
        (*key, [f if set(d) == every else f"{f} ({wording.listed(sorted(set(d)))})" for f, d in dtypes.items()])
        for key, dtypes in sorted(reasons.items())
    ]


def _kind(status: str) -> str:
    """The class that colours a status."""
    if status in _FAILED:
        return "failed"
    if status in ("uninformative", "inconclusive", "propagated"):
        return "vague"
    return status if status in ("conforms", "diverges", "known-divergence", "stale-divergence") else "muted"


def _warmth(ratio: float | None) -> int:
    """How near a conforming ratio is to the limit: 0 to 3, the last beyond it (rounding that lines up)."""
    return 0 if ratio is None else sum(ratio > bound for bound in (0.1, 0.5, 1.0))


def _cell_extra(cell: Cell) -> str:
    """What stands small beside the status: the worst ratio of what diverges."""
    return _error(cell.ratio) if cell.status in ("diverges", "known-divergence") else ""


def _cell_title(cell: Cell) -> str:
    """A cell in words."""
    counts = {s: sum(c.status == s for c in cell.cases) for s in dict.fromkeys(c.status for c in cell.cases)}
    told = f"{cell.folder} on {cell.column.name}: {wording.listed(wording.counted(s, n) for s, n in counts.items())}"
    return told if cell.ratio is None else f"{told}; worst error {wording.figure(cell.ratio, 2)} tolerances"


def _error(figure: Deviation | float | None) -> str:
    """A ratio, short."""
    if figure is None:
        return ""
    return wording.tolerances(figure.tolerances if isinstance(figure, Deviation) else figure)
