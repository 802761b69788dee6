"""Takes the pictures in docs/images: a test session with planted faults, its HTML report, and a browser.

python docs/screenshots.py              # writes docs/images/*.png
python docs/screenshots.py --to FOLDER  # writes them elsewhere
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parent / "images"
PICTURES = ("matrix", "case", "step")
SCHEMES = ("light", "dark")

SESSION = '''
"""Layers with planted faults, and three layers as the frameworks have them."""

import math

import numpy as np
import pytest
import torch
from torch import nn

RNG = np.random.default_rng(7)


class Attention(nn.Module):
    """Scores are divided by the root of the model's width, where they should be by that of a head's."""

    def __init__(self, width=40, heads=5):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.heads = heads

    def forward(self, x):
        def split(y):
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = query @ key.transpose(-1, -2) / math.sqrt(x.shape[-1])
        hidden = torch.ones(scores.shape[-2:], dtype=bool).triu(1)
        weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
        return self.output((weights @ value).transpose(1, 2).flatten(2))


class Norm(nn.Module):
    """The variance is the sample's, where it should be the population's."""

    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + 1e-5)


def test_attention(conformance):
    torch.manual_seed(0)
    x = RNG.normal(size=(2, 12, 40)).astype(np.float32)
    config = {"heads": 5, "causal": "top-left"}
    conformance.check(Attention(), "multi_head_attention", inputs={"query_input": x}, config=config)


def test_norm(conformance):
    conformance.check(Norm(), "layer_norm", inputs={"x": RNG.normal(size=(4, 9)).astype(np.float32)})


@pytest.mark.conformance(layers=["layer_norm", "linear", "softmax"], dtypes=["float32"])
def test_frameworks(conformance, conformance_case):
    conformance.assert_case(conformance_case)
'''


def main(arguments: list[str] | None = None) -> int:
    """Take every picture. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=IMAGES, help="the folder for the pictures (docs/images)")
    to: Path = parser.parse_args(arguments).to
    to.mkdir(parents=True, exist_ok=True)
    browser = shutil.which("chromium")
    if browser is None:
        print("Chromium is needed for the pictures: install the package chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        report = reported(Path(folder))
        opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for scheme in SCHEMES:
            page = opened.new_page(color_scheme=scheme, viewport={"width": 1120, "height": 900})
            page.goto(report.as_uri())
            for name in PICTURES:
                path = to / f"{name}-{scheme}.png"
                path.write_bytes(taken(page, name))
                print(path.relative_to(to.parent))
        opened.close()
    return 0


def reported(folder: Path) -> Path:
    """The HTML report of the session, which is run in `folder`."""
    (folder / "test_session.py").write_text(SESSION, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "test_session.py", "--conformance-html=report.html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the session failed:\n{done.stdout}{done.stderr}")
    return folder / "report.html"


def taken(page: Page, name: str) -> bytes:
    """One picture of the report."""
    problem = page.locator("article.problem.diverges", has_text="attention.scale")
    if name == "matrix":
        return page.locator("#matrix").screenshot()
    if name == "step":
        return problem.locator(".view").screenshot()
    problem.get_by_role("link", name="float32").click()  # which leads to the case, and opens it
    return page.locator("details.case[open]").screenshot()


if __name__ == "__main__":
    sys.exit(main())
