"""Text from elsewhere in GitHub's Markdown, where it means nothing but itself.

What GitHub makes of text after the Markdown is rendered (mentions, references to issues, emoji, mathematics, links)
is stopped by elements that part the characters; in code it does none of that.
"""

from __future__ import annotations

import html
import re

from conformance_reports.wording import visible

_SPECIAL = re.compile(r"[\\`*_\[\]<>&~!]")
_PARTED = re.compile(r"[@#$]|:(?=//)|:(?=[\w+-]+:)|(?<=www)\.", re.IGNORECASE)
_LEADING = re.compile(r"^(?:([-+=])|(\d{1,9})([.)]))")


def clipped(text: str, most: int) -> str:
    """`text` on one line, nothing unseen in it, and no longer than `most` characters."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def prose(text: str, most: int = 1500) -> str:
    """Text in which names stand between backticks, as Markdown: these as code, all else as it is."""
    pieces = clipped(text, most).split("`")
    last = len(pieces) - 1
    return "".join(
        code(piece) if number % 2 and number != last else _plain("`" + piece if number % 2 else piece, not number)
        for number, piece in enumerate(pieces)
    )


def _plain(text: str, first: bool) -> str:
    made = _PARTED.sub(lambda m: f"\x00{m[0]}\x01", text)
    made = _SPECIAL.sub(r"\\\g<0>", made)
    if first:
        made = _LEADING.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", made)
    return made.replace("|", "&#124;").replace("\x00", "<span>").replace("\x01", "</span>")


def code(text: str, most: int = 200) -> str:
    """Text as a code span, anywhere but in a table; of none nothing."""
    told = clipped(text, most)
    if not told:
        return ""
    fence = _fence(told, 1)
    pad = " " if told.startswith("`") or told.endswith("`") else ""
    return f"{fence}{pad}{told}{pad}{fence}"


def cell(markdown: str) -> str:
    """Markdown for a cell of a table: a pipe ends a cell even in code, unless a backslash stands before it."""
    return markdown.replace("|", r"\|")


def block(text: str) -> str:
    """Text as a block of code, of one language: a shell's."""
    told = visible(text)
    fence = _fence(told, 3)
    return f"{fence}sh\n{told}\n{fence}\n"


def _fence(text: str, least: int) -> str:
    """Backticks, more of them than stand together in `text`."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", text))])


def summary(name: str, rest: str = "", most: int = 200) -> str:
    """The line of a fold, which GitHub reads as HTML: a name, and what is said of it."""
    named = f"<code>{html.escape(clipped(name, most))}</code>" if name else ""
    return f"<summary>{' '.join(filter(None, (named, rest)))}</summary>"
