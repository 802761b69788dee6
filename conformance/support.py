"""The support matrix: which adapter has which layer, by which of the framework's own, in which dtypes, and which way
weights go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conformance.adapter import reads_back
from conformance.conversion import OwnLayout
from conformance.errors import Unsupported
from conformance.flow import Flow
from conformance.layers import get_layer, layer_names
from conformance.precision import PRECISIONS
from conformance.trace import Request

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.fixture import Fixture

INTO, OUT, BOTH = "into", "out of", "both ways"


@dataclass(frozen=True)
class Support:
    """How an adapter has a layer: its `subjects`, and how many `forms`, of the `of` that the layer's fixtures have, it
    runs in each dtype. Without a subject, the framework has no such layer, or is not run.

    `weights` says which way canonical weights go: `into` the framework, `out of` it, or `both ways`; it is empty where
    the layer has none, or they cannot go.
    """

    layer: str
    adapter: str
    subjects: tuple[str, ...]
    by_dtype: Mapping[str, int]
    of: int
    weights: str

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Those in which any form is run."""
        return tuple(d for d, count in self.by_dtype.items() if count)

    @property
    def forms(self) -> int:
        """How many forms are run, in the dtype that has the most."""
        return max(self.by_dtype.values())


def support(adapters: Iterable[Adapter], fixtures: Iterable[Fixture]) -> Iterator[Support]:
    """The matrix, layer by layer, of layers that have a fixture. Nothing is run, and no framework is imported."""
    chosen = list(adapters)
    by_layer: dict[str, list[Fixture]] = {}
    for fixture in fixtures:
        by_layer.setdefault(fixture.layer, []).append(fixture)
    for layer in (name for name in layer_names() if name in by_layer):
        requests = [(f, _request(f)) for f in by_layer[layer]]
        for adapter in chosen:
            told = {d: [_subjects(adapter, f, replace(r, dtype=d)) for f, r in requests] for d in PRECISIONS}
            yield Support(
                layer,
                adapter.name,
                tuple(dict.fromkeys(name for forms in told.values() for names in forms for name in names)),
                {d: sum(map(bool, forms)) for d, forms in told.items()},
                len(requests),
                _weights(adapter, requests),
            )


def _request(fixture: Fixture) -> Request:
    inputs, weights = fixture.load()
    config = {} if fixture.layer == "sequential" else fixture.config
    flow = Flow.bind(get_layer(fixture.layer, fixture.config), config, inputs, weights)
    return Request(fixture.layer, "", flow.config, inputs, weights, source=str(fixture.folder))


def _subjects(adapter: Adapter, fixture: Fixture, request: Request) -> list[str]:
    try:
        return list(adapter.subjects(request))
    except Unsupported:
        return [s.subject for s in fixture.shipped if s.adapter == adapter.name and request.dtype in s.dtypes]


def _weights(adapter: Adapter, requests: Iterable[tuple[Fixture, Request]]) -> str:
    """Which way weights go: into what runs with them, out of what reads them back, and as `export` converts them."""
    ways = set()
    for fixture, request in requests:
        if not request.weights:
            continue
        if isinstance(adapter, OwnLayout) and _has(adapter.layout_subjects, request):
            ways |= {INTO, OUT}
        if _has(adapter.subjects, request):
            ways |= {INTO, OUT} if reads_back(adapter) else {INTO}
        elif reads_back(adapter) and any(s.adapter == adapter.name for s in fixture.shipped):
            ways.add(OUT)  # of a recording
    return BOTH if len(ways) > 1 else "".join(ways)


def _has(subjects: Callable[[Request], Sequence[str]], request: Request) -> bool:
    try:
        return bool(subjects(request))
    except Unsupported:
        return False
