"""What there is to see: layers, adapters, fixtures, conventions, divergences, what the fixtures tell apart, and a
layer explained."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conformance.conventions import Convention
    from conformance.support import Support

WIDTH = 79
_MOST = 18  # characters of a value, beyond which it does not set the width of its column


def lines(what: str) -> Iterator[str]:
    """The lines of one list: `layers`, `adapters`, `fixtures`, `conventions`, `divergences` or `discrimination`."""
    return {
        "layers": _layers,
        "adapters": _adapters,
        "fixtures": _fixtures,
        "conventions": _conventions,
        "divergences": _divergences,
        "discrimination": _discrimination,
    }[what]()


def _columns(rows: list[tuple[str, str]]) -> Iterator[str]:
    width = max((len(first) for first, _ in rows), default=0)
    for first, rest in rows:
        yield from _hanging(f"{first:{width}}  ", rest)


def _hanging(start: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False
    ) or [start.rstrip()]


def _layers() -> Iterator[str]:
    from conformance.adapter import adapter_names, load
    from conformance.fixture import fixtures
    from conformance.layers import get_layer, layer_names
    from conformance.support import support

    having: dict[str, list[Support]] = {name: [] for name in layer_names()}
    adapters = {name: load(name) for name in adapter_names()}
    told = {fixture.layer for fixture in fixtures().values()}
    for found in support(adapters.values(), fixtures().values()):
        if found.subjects:
            having[found.layer].append(found)
    width = max(map(len, having))
    for name, cells in having.items():
        yield from _hanging(f"{name:{width}}  ", get_layer(name).summary)
        words = [s.adapter + _limits(s, adapters[s.adapter].dtypes) for s in cells]
        none = "no framework has its own" if name in told else "no fixture of its own"
        yield from _hanging(" " * (width + 2), f"[{', '.join(words) or none}]")


def _limits(cell: Support, dtypes: Sequence[str]) -> str:
    """What an adapter, which has `dtypes`, lacks in one layer: dtypes, and a way for the weights."""
    from conformance.support import BOTH

    lacking = [d for d in dtypes if d not in cell.dtypes]
    said = [f"not {' or '.join(lacking)}"] if lacking else []
    said += [f"weights {cell.weights} it"] if cell.weights and cell.weights != BOTH else []
    return f" ({'; '.join(said)})" if said else ""


def _adapters() -> Iterator[str]:
    from conformance.adapter import adapter_names, load, missing

    rows = []
    for name in adapter_names():
        adapter = load(name)
        absent = missing(adapter)
        state = "installed" if absent is None else f"{absent} is not installed: {adapter.install}"
        rows.append((name, f"{state}; {', '.join(adapter.dtypes)}"))
    return _columns(rows)


def _fixtures() -> Iterator[str]:
    from conformance.fixture import fixtures

    folders: dict[str, list[str]] = {}
    for f in fixtures().values():
        folder, _, form = f.id.partition("/")
        folders.setdefault(folder, [f"{f.layer}: {f.summary}"]).append(form or "(the folder's name)")
    for folder, (said, *forms) in folders.items():
        yield folder
        yield from _hanging("    ", said)
        if len(forms) > 1:
            yield from _hanging("    forms: ", ", ".join(forms))


def _conventions() -> Iterator[str]:
    from conformance.conventions import conventions

    for c in conventions().values():
        yield from _hanging(f"{c.id}  ", f"({c.kind}; {', '.join(c.layers)})")
        yield f"    canonical  {c.canonical}"
        for variant in c.variants:
            kind = "" if variant.kind == c.kind else f" [{variant.kind}]"
            yield from _hanging(f"    {variant.value}{kind}  ", variant.seen)


def _divergences() -> Iterator[str]:
    from conformance.adapter import adapter_names, module_of
    from conformance.divergences import listed

    for name in adapter_names():
        for entry in listed(name, module_of(name)):
            yield f"{name}  {entry.subject or 'every subject'}  at {entry.step}"
            yield from _hanging("    ", ", ".join(entry.fixtures))
            yield from _hanging("    ", f"{entry.reason} {entry.link}".rstrip())
            if entry.script:
                yield f"    reproductions/{entry.script}"


def _discrimination() -> Iterator[str]:
    from conformance.discrimination import ENOUGH, separations

    found = separations()
    width = max(len(s.value) for s in found)
    for layer, of_layer in groupby(found, key=lambda s: s.layer):
        yield layer
        for convention, rows in groupby(of_layer, key=lambda s: s.convention):
            variants = list(rows)
            steps = ", ".join(dict.fromkeys(s.step for s in variants if s.step))
            yield f" {convention}" + (f", seen first at {steps}" if steps else "")
            for s in variants:
                start = f"  {s.value:{width}} {_tolerances(s.tolerances) if s.fixture else '-':>6} "
                where = "" if s.at_output >= ENOUGH or not s.fixture else f", at {s.step} and not at the output"
                single = "" if s.dtype in ("float32", "") else f", in {s.dtype}"
                yield from _hanging(start, f"{s.fixture or 'NOT TOLD APART: ' + s.why}{single}{where}")
    enough = sum(s.enough for s in found)
    layers = len({s.layer for s in found})
    yield ""
    yield from _hanging(
        "",
        f"{enough} of {len(found)} variants of {layers} layers are told apart by {ENOUGH:g} "
        "tolerances or more: in the output, and in float32, where nothing else is said",
    )


def _tolerances(number: float) -> str:
    """A number of tolerances, as 1.2e5."""
    return f"{number:.1e}".replace("e+0", "e").replace("e+", "e") if number < float("inf") else "inf"


def explanation(name: str) -> Iterator[str]:
    """A layer on one page. Raises ConformanceError for an unknown name."""
    from conformance.conventions import of_layer
    from conformance.flow import ONE
    from conformance.layers import get_layer

    layer = get_layer(name)
    yield from _hanging(f"{layer.name}: ", layer.summary)
    yield ""
    yield from _hanging("    ", layer.formula)
    yield from _hanging("    source: ", layer.source)
    for title, names in (("inputs", layer.inputs), ("weights", layer.weights)):
        if names:
            yield ""
            yield f"{title}  (? may be absent)"
            yield from _columns([(f"    {n}", axes) for n, axes in names.items()])
    if layer.config:
        yield ""
        yield "config"
        yield from _columns([(f"    {n}", f"default {default!r}") for n, default in layer.config.items()])
    yield ""
    yield "steps  (in flow order; the last is the output)"
    yield "       (of a convention's choices, the first is the layer's)"
    conventions = of_layer(layer.name)
    told: list[Convention] = []
    for step in layer.steps.values():
        names = {p: n for p, n in step.reads.items() if n != ONE}
        reads = ", ".join(f"{n}?" if p in step.optional else n for p, n in names.items())
        given = f"  only with {' or '.join(step.given)}" if step.given else ""
        yield f"    {step.name}  [{layer.axes(step)}]{given}"
        yield from _hanging("        reads ", reads)
        acting = [c for c in conventions if c.keyword in step.conventions or c.step(layer.name) == step.name]
        for c in acting:
            if c not in told:
                yield from _choices(c, layer.name)
        again = [c.id for c in acting if c in told]
        if again:
            yield from _hanging("        as above: ", ", ".join(again))
        told += [c for c in acting if c not in told]


def _choices(convention: Convention, layer: str) -> Iterator[str]:
    """The values of a convention, the canonical one first, each with its formula in `layer`."""
    yield f"        {convention.id}"
    canonical = convention.canonical
    rows = [(canonical, convention.compared(layer, canonical, canonical)[1])]
    rows += [(v.value, convention.compared(layer, v.value, canonical)[0]) for v in convention.variants]
    width = max(len(value) for value, _ in rows if len(value) <= _MOST)
    for value, formula in rows:
        start = f"            {value:{width}}  "
        if len(start) + len(formula) <= WIDTH:
            yield (start + formula).rstrip()
        else:
            yield start.rstrip()
            yield from _hanging(" " * 16, formula)
