"""How the errors of a step are spread, drawn by Vega-Lite as SVG.

The colours are the page's own (custom properties of CSS), so that they follow its light and dark; no style is in it,
which the page's policy would forbid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from markupsafe import Markup

from conformance.result import HISTOGRAM
from conformance_reports.wording import figure

_BOUNDS = (HISTOGRAM[0] / math.sqrt(10), *HISTOGRAM, HISTOGRAM[-1] * math.sqrt(10))  # the open classes are as wide
_TICKS = {1e-3: "0.001", 1.0: "1", 1e3: "1e3", 1e6: "1e6", 1e9: "1e9"}


@cache
def histogram(counts: tuple[int, ...]) -> Markup:
    """The histogram of `counts`, which are in the classes of HISTOGRAM, on a logarithmic axis."""
    import vl_convert  # it starts an engine

    bars = [
        {"from": low, "to": high, "count": count, "beyond": low > 0.99}
        for low, high, count in zip(_BOUNDS, _BOUNDS[1:], counts, strict=False)
        if count
    ]
    ink = "currentColor"
    axis = {"labelColor": ink, "titleColor": ink, "domainColor": ink, "tickColor": ink, "titleFontWeight": "normal"}
    named = " : ".join([*(f"datum.value == {value} ? '{text}'" for value, text in _TICKS.items()), "''"])
    drawing = vl_convert.vegalite_to_svg(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "width": 420,
            "height": 90,
            "background": None,
            "layer": [
                {
                    "data": {"values": bars},
                    "mark": {"type": "rect", "aria": False},
                    "encoding": {
                        "x": {
                            "field": "from",
                            "type": "quantitative",
                            "scale": {"type": "log", "domain": [_BOUNDS[0], _BOUNDS[-1]], "nice": False},
                            "axis": {
                                "title": "error in tolerances",
                                "values": list(_TICKS),
                                "labelExpr": named,
                            },
                        },
                        "x2": {"field": "to"},
                        "y": {
                            "field": "count",
                            "type": "quantitative",
                            "scale": {"type": "symlog"},
                            "axis": {"title": "elements", "values": _round_numbers(max(counts))},
                        },
                        "y2": {"datum": 0},
                        "color": {
                            "field": "beyond",
                            "type": "nominal",
                            "legend": None,
                            "scale": {"domain": [False, True], "range": ["var(--within)", "var(--beyond)"]},
                        },
                    },
                },
                {
                    "data": {"values": [{"limit": 1}]},
                    "mark": {"type": "rule", "strokeDash": [3, 3], "aria": False, "color": ink},
                    "encoding": {"x": {"field": "limit", "type": "quantitative"}},
                },
            ],
            "config": {"font": "inherit", "axis": {**axis, "grid": False, "aria": False}, "view": {"stroke": None}},
        }
    )
    return Markup(drawing)  # drawn from numbers alone


def _round_numbers(most: int) -> list[int]:
    return [0, *(10**k for k in range(len(str(max(most, 1)))))]


def spread(counts: Sequence[int]) -> str:
    """A histogram in words, for who does not see it."""
    classes = list(zip((0.0, *HISTOGRAM), (*HISTOGRAM, math.inf), counts, strict=True))
    within = sum(count for low, _, count in classes if low < 0.99)
    told = [
        f"{count:,} by {figure(low, 2)} to {figure(high, 2)}" for low, high, count in classes if count and low > 0.99
    ]
    off = f"; off by more: {', '.join(told)}" if told else ""
    return f"{within:,} of {sum(counts):,} elements are within one tolerance{off}"
