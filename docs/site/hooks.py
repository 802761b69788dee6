"""What MkDocs does differently here: the README is the first page, anchors are GitHub's, and wide tables scroll."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_config(config: MkDocsConfig) -> None:
    """Give headings the anchors that GitHub gives them."""
    config.mdx_configs["toc"]["slugify"] = anchor


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the README as the page index.md."""
    readme = Path(config.docs_dir).parent / "README.md"
    text = readme.read_text(encoding="utf-8").replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to the README into links to that page."""
    return markdown.replace("](../README.md", "](index.md")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put each table into a box in which it can scroll."""
    return html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")


def anchor(heading: str, separator: str) -> str:
    """A heading's anchor, as on GitHub, where the same pages are read."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)
