"""Prints `--fixture` and a form for each layer: of those that half formats tell something of, what most adapters have.

python .ci/half_forms.py DTYPE...
"""

import sys
from contextlib import suppress

from conformance.adapter import adapter_names, load
from conformance.errors import Unsupported
from conformance.figures import informative
from conformance.fixture import Fixture, fixtures
from conformance.flow import Flow
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import precision
from conformance.trace import Request


def request(form: Fixture, dtype: str) -> tuple[Request, bool]:
    """What a form asks for in `dtype`, and whether anything can be said of its output."""
    number = precision(dtype)
    inputs, weights = ({n: number.round(a) for n, a in given.items()} for given in form.load())
    config = {} if form.layer == "sequential" else form.config
    flow = Flow.bind(get_layer(form.layer, form.config), config, inputs, weights)
    *_, (_, output) = flow.run(RoundingModel(number))
    return Request(form.layer, "", flow.config, inputs, weights, dtype), informative(output)


def adapters_with(asked: Request) -> int:
    """How many adapters can be asked that."""
    count = 0
    for name in adapter_names():
        with suppress(Unsupported):
            count += bool(load(name).subjects(asked))
    return count


best: dict[str, tuple[int, str]] = {}
for form in fixtures().values():
    asked = [request(form, dtype) for dtype in sys.argv[1:]]
    if all(tells for _, tells in asked) and not form.defaults:
        most = sum(adapters_with(r) for r, _ in asked)
        if most > best.get(form.layer, (0, ""))[0]:
            best[form.layer] = most, form.id
for _, name in best.values():
    print("--fixture", name)
