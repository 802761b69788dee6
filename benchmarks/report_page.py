"""How large the HTML report of a thousand cases is, and how fast it opens and is filtered in Chromium.

Two runs, made of real cases that are repeated under other names: every case diverging, with values of each step, which
is the worst that a page has to hold; and a mix of what diverges, what conforms and what is left out. It should be
below 20 MB, open within 2 seconds and answer a keystroke within 0.1.

Usage: python benchmarks/report_page.py [--cases N] [--repeats N]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import torch
from playwright.sync_api import Browser, sync_playwright
from torch import Tensor, nn

import conformance
from conformance.checking import run_of
from conformance.fixture import select
from conformance.report import load
from conformance.result import Case, Run
from conformance.run import run

OPENED = """() => new Promise((done) => {
  const told = () => {
    const [navigation] = performance.getEntriesByType("navigation");
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    done([navigation.domInteractive, navigation.loadEventEnd, paint?.startTime ?? NaN]);
  };
  requestAnimationFrame(() => setTimeout(told));
})"""
"""Milliseconds until the page is read and its script has run, until it is loaded, and until something is painted."""

TYPED = """(text) => new Promise((done) => {
  const field = document.getElementById("filter-text");
  const start = performance.now();
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""
"""Milliseconds from a keystroke until the frame that shows what it chose is drawn."""


class Unscaled(nn.Module):
    """Self-attention whose scores are not divided."""

    def __init__(self, heads: int = 3, width: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        parts = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        query, key, value = parts
        return self.out_proj((torch.softmax(query @ key.mT, -1) @ value).transpose(1, 2).flatten(2))


def repeated(cases: list[Case], number: int) -> Run:
    """A run of so many cases, each under a name of its own, with as many values as a run keeps."""
    layers = len(cases)
    made = [
        msgspec.structs.replace(cases[n % layers], fixture=f"fixture-{n // 8}/form-{n}", adapter=f"adapter-{n % 8}")
        for n in range(number)
    ]
    return run_of(made, {}, 60.0)


def measured(browser: Browser, page_of: Run, name: str, repeats: int) -> None:
    clock = time.perf_counter()
    text = load("html")(page_of)
    made = time.perf_counter() - clock
    print(f"{name}: {len(page_of.cases)} cases, {len(text.encode()) / 1e6:.1f} MB, made in {made:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(text, "utf-8")
        opened, keys = [], []
        for _ in range(repeats):
            page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.goto(file.as_uri(), wait_until="load")
            opened.append(page.evaluate(OPENED))
            keys += [page.evaluate(TYPED, text) for text in ("f", "fo", "form-9", "form-99", "float32", "no such", "")]
            page.context.close()
    for told, column in zip(("read", "loaded", "first paint"), zip(*opened, strict=True), strict=True):
        print(f"  {told:<12} {statistics.median(column) / 1e3:6.2f} s, at most {max(column) / 1e3:.2f} s")
    print(f"  {'keystroke':<12} {statistics.median(keys) / 1e3:6.3f} s, at most {max(keys) / 1e3:.3f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("Chromium is needed, and there is none: install the package chromium", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    fault = conformance.check(Unscaled(), "multi_head_attention", config={"heads": 3})
    others = run(select(["gelu", "layer-norm"]), ["torch", "onnxruntime", "matlab"]).cases
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        measured(browser, repeated([fault], options.cases), "all diverge", options.repeats)
        measured(browser, repeated([fault, *others], options.cases), "a mix", options.repeats)
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
