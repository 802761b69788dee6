"""Pages of documentation taken apart: their code blocks, and what a comment before a block says of it.

`<!-- file: NAME -->`   the block is the content of a file
`<!-- edit: NAME -->`   the block is a diff, to be made in that file
`<!-- install -->`      the block installs the package in the folder: its entry points are then known
`<!-- run -->`          the block is run; `<!-- run: exit 1 -->` where it ends with 1
`<!-- prints -->`       the block is what the run before it printed
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"(?:<!-- (?P<say>[^>\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: what is said of it, its language and its text."""

    verb: str
    operand: str
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of `page`, in order."""
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        verb, _, operand = (match["say"] or "").partition(":")
        yield Block(verb.strip(), operand.strip(), match["language"], match["text"])


def comparable(printed: str) -> str:
    """Output without what differs from run to run and from machine to machine.

    That is seconds, figures, and the white space by which columns and lines are filled.
    """
    text = re.sub(r"in [\d.e]+ s\b", "in some s", printed)
    text = re.sub(r"(?<![\w.])<?\d+(\.\d+(e-?\d+)?|e-?\d+)(?![\w.]\d)", "#", text)
    return " ".join(text.split())


class Reader:
    """Someone who does in `folder` what a page says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed: str | None = None
        own = ("COLUMNS", "FORCE_COLOR", "PYTHONPATH", "PYTEST_ADDOPTS")
        self.environment = {k: v for k, v in os.environ.items() if k not in own}
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
        }

    def follow(self, block: Block) -> None:
        """Do what `block` says. An AssertionError says where the page is wrong."""
        if block.verb == "file":
            path = self.folder / block.operand
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.verb == "edit":
            self.edit(self.folder / block.operand, block.text.splitlines(keepends=True))
        elif block.verb == "install":
            assert "pip install" in block.text
            self.install()
        elif block.verb == "run":
            self.run(block)
        elif block.verb == "prints":
            assert self.printed is not None, "nothing was run before it"
            assert comparable(self.printed) == comparable(block.text), self.printed
        else:
            assert not block.verb, f"{block.verb!r} is nothing that a page can say of a block"

    def edit(self, path: Path, lines: list[str]) -> None:
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is not once in {path.name}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def install(self) -> None:
        """What `pip install -e .` leaves behind, as far as entry points go, without a build environment."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        folder = self.folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        folder.mkdir()
        head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (folder / "METADATA").write_text(head, encoding="utf-8")
        lines = [
            line
            for group, entries in project["entry-points"].items()
            for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
        ]
        (folder / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(self, block: Block) -> None:
        command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-c"]
        done = subprocess.run(
            [*command, block.text],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        wanted = int(block.operand.removeprefix("exit ") or 0)
        assert done.returncode == wanted, f"{block.text}\nends with {done.returncode}:\n{done.stdout}"
        self.printed = done.stdout
