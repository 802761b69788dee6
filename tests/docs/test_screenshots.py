import re
import struct
import subprocess
import sys
from pathlib import Path

from pages import ROOT


def size(picture: Path) -> tuple[int, int]:
    """Width and height, which a PNG has behind its signature and the head of its first chunk."""
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_the_pictures_of_the_docs_are_taken_by_the_command(tmp_path):
    # a process of its own: Playwright's event loop of the browser tests may be running in this one
    command = [sys.executable, str(ROOT / "docs" / "screenshots.py"), "--to", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    taken = {p.name: size(p) for p in tmp_path.iterdir()}
    kept = {p.name: size(p) for p in (ROOT / "docs" / "images").iterdir()}
    assert sorted(taken) == sorted(kept)
    for name, (width, height) in taken.items():
        # fonts differ between machines; a view that is missing or empty is another matter
        assert abs(width - kept[name][0]) < 0.2 * width, name
        assert abs(height - kept[name][1]) < 0.3 * height, name
    shown = re.findall(r"\]\(images/([^)]+)\)", (ROOT / "docs" / "report.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(kept)
