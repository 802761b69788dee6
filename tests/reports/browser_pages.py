"""What the tests in a browser share: a watch over a page, and what they look at."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from conformance.result import Case, Run

Visit = Callable[..., Page]
NOT_RUN = ("unsupported", "unavailable")

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


class Watch:
    """What a page does that it should not: messages, errors, dialogs, and requests of more than itself."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.requested: list[str] = []
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.requested.append(request.url.partition("#")[0]))

    def found(self) -> list[str]:
        """All of it."""
        told = list(self.said)
        if self.page.url.startswith("file:"):
            told += [f"violation of {directive}" for directive in self.page.evaluate("window.violations ?? []")]
        itself = self.page.url.partition("#")[0]
        return told + [f"request of {url}" for url in self.requested if url != itself]


def opened(page: Page) -> Page:
    """The page with everything open that opens, and laid out."""
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    page.evaluate("document.querySelectorAll('.problem').forEach((p) => { p.style.contentVisibility = 'visible'; })")
    return page


def lines(page: Page) -> Locator:
    """The lines of the cases that show."""
    return page.locator("#cases details.case > summary").filter(visible=True)


def rows(page: Page) -> list[str]:
    """The fixtures of the rows of the matrix that show."""
    return sorted(page.locator(".matrix tbody tr").filter(visible=True).locator("th:nth-child(2)").all_inner_texts())


def folders(cases: list[Case]) -> list[str]:
    return sorted(folder for _, folder in {(c.layer, c.fixture.split("/")[0]) for c in cases})


def filtered(page: Page, run: Run, fits: Callable[[Case], bool]) -> None:
    """The page shows the cases of the run that fit, and tells how many."""
    wanted = [c for c in run.cases if fits(c)]
    expect(page.get_by_role("status")).to_have_text(f"{len(wanted)} of {len(run.cases)} cases")
    expect(lines(page)).to_have_count(sum(c.status not in NOT_RUN for c in wanted))
    assert rows(page) == folders(wanted)
