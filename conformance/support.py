"""The support matrix: which adapter has which layer, by which of the framework's own, in which dtypes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from conformance.errors import Unsupported
from conformance.flow import Flow
from conformance.layers import get_layer, layer_names
from conformance.precision import PRECISIONS
from conformance.trace import Request

if TYPE_CHECKING:
    from conformance.adapter import Adapter
    from conformance.fixture import Fixture


@dataclass(frozen=True)
class Support:
    """How an adapter has a layer: its `subjects`, the `dtypes` in which any of them is run, and `forms` of the `of`
    that the layer's fixtures have. Without a subject, the framework has no such layer."""

    layer: str
    adapter: str
    subjects: tuple[str, ...]
    dtypes: tuple[str, ...]
    forms: int
    of: int


def support(adapters: Iterable[Adapter], fixtures: Iterable[Fixture]) -> Iterator[Support]:
    """The matrix, layer by layer, of layers that have a fixture. Nothing is run, and no framework is imported."""
    chosen = list(adapters)
    by_layer: dict[str, list[Fixture]] = {}
    for fixture in fixtures:
        by_layer.setdefault(fixture.layer, []).append(fixture)
    for layer in (name for name in layer_names() if name in by_layer):
        requests = [(f, _request(f)) for f in by_layer[layer]]
        for adapter in chosen:
            told = [[_subjects(adapter, f, replace(r, dtype=d)) for f, r in requests] for d in PRECISIONS]
            yield Support(
                layer,
                adapter.name,
                tuple(dict.fromkeys(name for forms in told for names in forms for name in names)),
                tuple(d for d, forms in zip(PRECISIONS, told, strict=True) if any(forms)),
                max(sum(map(bool, forms)) for forms in told),
                len(requests),
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
