"""Writes what is made from data: conventions.md, divergences.md, reproductions.md, support.md, commands.md, and the
README's table.

python docs/catalogue.py            # writes what has changed
python docs/catalogue.py --check    # writes nothing, and exits with 1 where a page is stale
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from kernels import read
from reference import commands_page

from conformance.adapter import Adapter, adapter_names, load
from conformance.conventions import Convention, conventions
from conformance.divergences import Divergence, known
from conformance.fixture import fixtures
from conformance.layers import get_layer, layer_names
from conformance.precision import PRECISIONS
from conformance.reproductions import Reproduction, claim, reproductions, source
from conformance.support import BOTH, INTO, OUT, Support, support

ROOT = Path(__file__).resolve().parents[1]
OWN_FIXTURES, OWN_ADAPTERS = "conformance_fixtures", "conformance_adapters"  # a third party's stay out of these pages
BEGIN, END = "<!-- begin: docs/catalogue.py -->", "<!-- end: docs/catalogue.py -->"
_WAYS = {INTO: "→", OUT: "←", BOTH: "⇄"}
KERNELS = read()
_LISTED = ", ".join(PRECISIONS)
_MADE = "<!-- Made by `python docs/catalogue.py` from {}: edit that, and run it again. -->"
_KINDS = {
    "replay": "The oracle is run with the variant, and diagnosis names it where the values then agree.",
    "weights": "The canonical weights are rearranged, and diagnosis names it as above.",
    "layout": "The same numbers with other axes. Reported as a layout, never as a fault.",
    "precision": "Coarser arithmetic. Named where casting the operands gives the values within the unchanged tolerance "
    "(`tf32`, `bfloat16`); elsewhere a hint, since a wide tolerance explains nothing.",
    "advisory": "Known, but no value tells it apart. Shown here and by `conformance explain`, never diagnosed.",
}


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write the pages under `root`; with `--check`, name those that are stale. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a page is stale")
    check = parser.parse_args(arguments).check
    stale = [path for path, text in pages(root) if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path, text in pages(root):
        if path in stale:
            print(f"{path.relative_to(root)} {'is stale' if check else 'written'}", file=sys.stderr)
            if not check:
                path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


def pages(root: Path) -> Iterator[tuple[Path, str]]:
    """Each page with the text that it should have."""
    yield root / "docs" / "conventions.md", "\n".join(conventions_page()) + "\n"
    yield root / "docs" / "divergences.md", "\n".join(divergences_page()) + "\n"
    yield root / "docs" / "reproductions.md", "\n".join(reproductions_page()) + "\n"
    yield root / "docs" / "support.md", "\n".join(support_page()) + "\n"
    head = ["# Command reference", "", _MADE.format("conformance/options.py"), ""]
    yield root / "docs" / "commands.md", "\n".join([*head, *commands_page()]) + "\n"
    readme = root / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    yield readme, "\n".join([before + BEGIN, *coverage(), END + after])


def cell(text: str) -> str:
    """`text` as it can stand in a table or a paragraph of Markdown."""
    plain = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "*_`[]" else c for c in plain)


def code(text: str) -> str:
    """`text` as code in a table."""
    return "`" + text.replace("|", "\\|") + "`"


def own_adapters() -> list[Adapter]:
    """The adapters that come with conformance."""
    loaded = [load(name) for name in adapter_names()]
    return [a for a in loaded if type(a).__module__.partition(".")[0] == OWN_ADAPTERS]


# -- conventions --------------------------------------------------------------------------------------------


def conventions_page() -> Iterator[str]:
    """The page of conventions: a section for each family, as the ids have it."""
    yield "# Conventions"
    yield ""
    yield _MADE.format("conformance/conventions.toml")
    yield ""
    yield (
        "A convention is a choice on which implementations differ although the same layer was asked for. "
        "The canonical value is the oracle's. Each variant is a choice that someone made, with the place where it "
        "was seen, and what it makes of the step. A value in angle brackets stands for any number. "
        "`conformance list conventions` prints the values."
    )
    yield ""
    yield "| kind | what it means for a diagnosis |"
    yield "|---|---|"
    for kind, meaning in _KINDS.items():
        yield f"| {kind} | {meaning} |"
    yield ""
    yield (
        "*Tried at* names the steps of the installed layers at which diagnosis replays the convention. Where it says "
        "*not yet*, the id is reserved, and no diagnosis names it."
    )
    yield ""
    yield (
        "In a formula `^` is a power, and names are those of the layer's steps, inputs and config. Where a choice acts "
        "in several steps alike, a word stands for each: `gate` (`pre_activation` before its activation), or `x`, "
        "`kernel` and `bias` for those of the projection at hand."
    )
    for family, members in groupby(conventions().values(), key=lambda c: c.id.partition(".")[0]):
        yield ""
        yield f"## {family}"
        for convention in members:
            yield ""
            yield from _convention(convention)


def _convention(convention: Convention) -> Iterator[str]:
    yield f"### {convention.id}"
    yield ""
    own = _formulas(convention.formulas, "", convention.canonical)
    yield (
        f"Canonical: {code(convention.canonical)}{f', {own}' if own else ''}. Kind: {convention.kind}. "
        f"Layers: {_words(convention.layers)}."
    )
    if any(v.kind in ("replay", "weights") for v in convention.variants):
        tried = [f"`{step}` of `{layer}`" for layer, step in _replayed(convention)]
        yield f"Tried at: {', '.join(tried) or 'not yet'}."
    yield ""
    yield "| variant | formula | kind | seen |"
    yield "|---|---|---|---|"
    for variant in convention.variants:
        formula = _formulas(variant.formulas, variant.value, convention.canonical)
        yield f"| {code(variant.value)} | {formula} | {variant.kind} | {cell(variant.seen)} |"
    if convention.note:
        yield ""
        yield cell(convention.note)


def _formulas(by_layer: Mapping[str, str], value: str, canonical: str) -> str:
    """A formula as code, with the values in it; several, each with its layer where it is not that of all others."""
    told = []
    for layer, formula in by_layer.items():
        filled = formula.replace("{value}", value).replace("{canonical}", canonical)
        if filled:
            told.append(code(filled) + ("" if layer == "*" else f" (`{layer}`)"))
    return ", ".join(told)


def _words(names: tuple[str, ...]) -> str:
    return ", ".join("all" if n == "*" else f"`{n}`" for n in names)


def _replayed(convention: Convention) -> Iterator[tuple[str, str]]:
    """The layers and steps whose functions have the convention as a keyword."""
    for name in layer_names():
        for step in get_layer(name).steps.values():
            if convention.keyword in step.conventions:
                yield name, step.name


# -- known divergences ----------------------------------------------------------------------------------------


def divergences_page() -> Iterator[str]:
    """The page of known divergences: a section for each adapter that has any."""
    yield "# Known divergences"
    yield ""
    yield _MADE.format("adapters/conformance_adapters/known_divergences/")
    yield ""
    yield (
        "What the tested versions of the frameworks are known to compute in another way, with the evidence. A case "
        "that an entry covers has the status `known-divergence` and does not fail a run. Entries are strict: one that "
        "no longer diverges is a `stale-divergence`, and one that diverges in another way still `diverges`; both fail "
        "it. `conformance list divergences` prints the same, and "
        "[Writing an adapter](adapter.md#known-divergences) has the format."
    )
    listed = {a.name: entries for a in own_adapters() if (entries := known(a))}
    if not listed:
        yield ""
        yield "There is none."
    for name, entries in listed.items():
        yield ""
        yield f"## {name}"
        for entry in entries:
            yield ""
            yield from _divergence(entry)


def _divergence(entry: Divergence) -> Iterator[str]:
    yield f"### {entry.subject or 'every subject'}: {entry.step}"
    yield ""
    yield f"{cell(entry.reason)}"
    yield ""
    yield f"- fixtures: {', '.join(f'`{f}`' for f in entry.fixtures)}"
    yield f"- dtypes: {', '.join(entry.dtypes) or 'all'}"
    if entry.modes:
        yield f"- modes: {', '.join(f'`{mode}`' for mode in entry.modes)}"
    if entry.versions:
        yield f"- versions: {', '.join(f'`{package} {wanted}`' for package, wanted in entry.versions.items())}"
    if entry.conventions is not None:
        named = ", ".join(f"`{c}`" for c in entry.conventions)
        yield f"- diagnosis that must come out: {named or 'unexplained'}"
    if entry.link:
        yield f"- evidence: <{entry.link}>"
    if entry.script:
        yield f"- reproduction: [`{entry.script}`](reproductions.md#{_anchor(entry.script)})"


# -- reproductions --------------------------------------------------------------------------------------------


def reproductions_page() -> Iterator[str]:
    """The page of scripts that show a divergence with one framework alone: a table of them, then each in full."""
    listed = reproductions(OWN_ADAPTERS)
    yield "# Reproductions"
    yield ""
    yield _MADE.format("adapters/conformance_adapters/reproductions/")
    yield ""
    yield (
        "Where a framework leaves its documentation, or what the others agree on: a script for each divergence, which "
        "needs NumPy and that framework alone, not conformance. It prints the versions, the numbers expected and those "
        "got. It exits with 0 where the divergence is still there, and with 1 and `no longer reproduces` where it is "
        "not. The expected numbers come from the formula in NumPy, or by hand. The tests run every one. "
        "[Known divergences](divergences.md) has the cases of the fixtures in which some of them show."
    )
    yield ""
    shared = sum(bool(one.shares) for one in listed)
    upstream, searched = sum(bool(one.issue) for one in listed), sum(bool(one.searched) for one in listed)
    yield (
        f"{len(listed)} scripts of {len(listed) - shared} causes: {shared} show another's cause in another place, and "
        f"name it. {upstream} have an upstream issue; the trackers were searched for {searched} others without finding "
        "one, and an issue of another symptom is named as related. Each says what else gives the expected numbers:"
    )
    yield ""
    yield "| layer | what is wrong | versions | upstream |"
    yield "|---|---|---|---|"
    for one in sorted(listed, key=lambda r: (r.layer, r.script)):
        what = cell(claim(source(OWN_ADAPTERS, one.script)))
        issue = f"[{_issue(one.issue)}]({one.issue})" if one.issue else _searched(one)
        yield f"| `{one.layer}` | [{what}](#{_anchor(one.script)}) | {_versions(one)} | {issue} |"
    for one in sorted(listed, key=lambda r: r.script):
        yield ""
        yield from _reproduction(one)


def _reproduction(one: Reproduction) -> Iterator[str]:
    text = source(OWN_ADAPTERS, one.script)
    yield f"## {one.script.removesuffix('.py')}"
    yield ""
    yield cell(claim(text))
    yield ""
    yield f"- layer: `{one.layer}`, at {one.step}"
    yield f"- versions: {_versions(one)}"
    yield f"- expected: {code(one.expected)}"
    yield f"- got: {code(one.got)}"
    if one.confirmed:
        yield f"- confirmed by: {one.confirmed}"
    if one.shares:
        yield f"- the same cause as [`{one.shares}`](#{_anchor(one.shares)})"
    if one.issue:
        yield f"- upstream: <{one.issue}>"
    elif one.searched:
        yield f"- upstream: {_searched(one)}"
    if one.related:
        yield f"- related: <{one.related}>"
    yield ""
    yield "```python"
    yield text.rstrip()
    yield "```"


def _searched(one: Reproduction) -> str:
    """When the framework's issues were searched without finding it."""
    return f"none found in {one.searched}" if one.searched else ""


def _versions(one: Reproduction) -> str:
    return ", ".join(f"{package} {version}" for package, version in one.versions.items())


def _issue(url: str) -> str:
    """An issue by its repository and number."""
    owner_and_name, _, number = url.removeprefix("https://github.com/").rpartition("/")
    return f"{owner_and_name.split('/')[1]}#{number}"


def _anchor(script: str) -> str:
    return script.removesuffix(".py")


# -- what runs where ------------------------------------------------------------------------------------------


def supported() -> list[Support]:
    """The support matrix of the layers, fixtures and adapters that come with conformance."""
    return list(support(own_adapters(), [f for f in fixtures().values() if f.folder.parent.name == OWN_FIXTURES]))


def coverage() -> Iterator[str]:
    """The README's table: how many layers each adapter has, of which fixtures how many forms."""
    found = supported()
    layers, forms = {s.layer for s in found}, {s.layer: s.of for s in found}
    yield f"{len(layers)} layers in {sum(forms.values())} forms. Each adapter runs its framework's own:"
    yield ""
    yield "| adapter | layers | forms |"
    yield "|---|--:|--:|"
    for adapter in dict.fromkeys(s.adapter for s in found):
        own = [s for s in found if s.adapter == adapter and s.subjects]
        yield f"| `{adapter}` | {len(own)} | {sum(s.forms for s in own)} |"


def support_page() -> Iterator[str]:
    """docs/support.md."""
    found = supported()
    adapters = list(dict.fromkeys(s.adapter for s in found))
    yield "# Support"
    yield ""
    yield _MADE.format("the adapters' tables and the fixtures")
    yield ""
    yield (
        "Which layers each adapter has, as a number of the forms of the layer's [fixtures](fixtures.md) that the "
        f"framework can express and runs: one number where it is the same in {_LISTED}, else one for each, in this "
        "order. What is declared is counted, less what the main job found no kernel for in the tested versions. What "
        "is not in a cell, the framework does not have, or not under these options. Which way weights go stands "
        "behind it:"
    )
    yield ""
    yield (
        f"- {_WAYS[BOTH]} canonical weights go into the framework's layer and come back out of it: a run is an error "
        "where one does not come back, or not as it went in;"
    )
    yield f"- {_WAYS[INTO]} into the framework alone, {_WAYS[OUT]} out of it alone; nothing where a layer has none."
    yield ""
    yield (
        "Without a number, the framework is not run, but `conformance export` converts its weights. `conformance list "
        "layers` prints the layers of what is installed."
    )
    yield ""
    yield "| layer | forms | " + " | ".join(adapters) + " |"
    yield "|---|--:|" + "--:|" * len(adapters)
    for layer, row in groupby(found, key=lambda s: s.layer):
        cells = list(row)
        yield f"| `{layer}` | {cells[0].of} | " + " | ".join(map(_supported, cells)) + " |"
    yield ""
    yield "## Whose layers they are"
    yield ""
    yield (
        "The framework's own layers and functions that are run, and the dtypes in which they are asked for. Where the "
        "framework turns out to have no kernel for one, the case is `unsupported`."
    )
    for layer, row in groupby(found, key=lambda s: s.layer):
        yield ""
        yield f"### {layer}"
        yield ""
        cells = [s for s in row if s.subjects]
        if not cells:
            yield "No framework has its own: `conformance check` judges what a user wrote in any of them."
        for s in cells:
            yield f"- {s.adapter} ({', '.join(s.dtypes)}): {', '.join(map(code, s.subjects))}"


def _supported(s: Support) -> str:
    """A cell of the matrix: forms by dtype that are run, and which way weights go."""
    lacking = [
        d for adapter, layer, d, form in KERNELS if (adapter, layer) == (s.adapter, s.layer) and form in fixtures()
    ]
    counts = [count - lacking.count(dtype) for dtype, count in s.by_dtype.items()]
    numbers = str(counts[0]) if len(set(counts)) == 1 else "/".join(str(n) if n else "-" for n in counts)
    return f"{numbers if s.subjects else ''} {_WAYS[s.weights] if s.weights else ''}".strip()


if __name__ == "__main__":
    sys.exit(main())
