"""A diff of two models as one HTML page: self-contained, without network, without script."""

from __future__ import annotations

from markupsafe import Markup

from conformance.difference import Difference
from conformance_reports import difference_wording
from conformance_reports.html_page import POLICY, hashed, source, templates


def render(found: Difference) -> str:
    """`found` as a page; style is named in its content security policy by its hash, and nothing else may load."""
    style = source("page.css")
    return (
        templates()
        .get_template("difference.html.j2")
        .render(
            found=found,
            style=Markup(style),
            policy=f"{POLICY}; style-src {hashed(style)}",
            told=difference_wording,
        )
    )
