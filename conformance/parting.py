"""The first operation at which two models part, from their graphs and the tensors that both hold.

A tensor of one model that the other does not hold may only be a step of another decomposition: then every way from
it to the output leads through a tensor that both hold. Where one does not, the models have parted at it or before it.
The first such operation whose own operands are still common is where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from conformance.matching import Graph, Match, closest

_ALIKE = 0.25  # of the scale: an error below it is that of a tensor which is still recognisably the same


@dataclass(frozen=True)
class Parting:
    """Where two models part.

    `a` and `b` are the first nodes that are not common, `a_until` and `b_until` the nodes up to which one is to be
    looked at: they sit at the same place, and `figures` compares their values. `shared` are the last common nodes
    that they were computed from, as pairs. What is None the model does not have.
    """

    a: int | None
    b: int | None
    a_until: int | None
    b_until: int | None
    figures: Match | None
    shared: tuple[tuple[int, int], ...]


class _Side:
    """One model's graph, up to `output`, and which of its nodes are common; those by the number that they have in B."""

    def __init__(self, graph: Graph, common: Mapping[int, int], output: int | None) -> None:
        self.graph, self.common = graph, common
        self.output = output

    @cached_property
    def parted(self) -> list[int]:
        """The nodes that are not common and lead to the output past everything that is, in order."""
        nodes = self.graph.nodes
        past = [self.output is None or n == self.output for n in range(len(nodes))]
        for number in reversed(range(len(nodes))):
            if number in self.common and nodes[number].values.telling:
                past[number] = False
            if past[number]:
                for read in nodes[number].reads:
                    past[read] = True
        return [n for n in range(len(nodes)) if past[n] and n not in self.common]

    @cached_property
    def boundary(self) -> list[frozenset[int]]:
        """For each node, the last common nodes that it was computed from."""
        found: list[frozenset[int]] = []
        for node in self.graph.nodes:
            made: set[int] = set()
            for read in node.reads:
                made |= {self.common[read]} if read in self.common else found[read]
            found.append(frozenset(made))
        return found

    def first(self, number: int | None = None, where: Callable[[int], bool] = lambda n: True) -> int | None:
        """The first parted node (that `number` depends on) without a parted operand; a mask where there is no other."""
        parted = set(self.parted)
        nodes = self.graph.nodes
        within = (1 << len(nodes)) - 1 if number is None else self.graph.ancestors[number]
        found = [n for n in self.parted if within >> n & 1 and not parted.intersection(nodes[n].reads) and where(n)]
        telling = [n for n in found if nodes[n].values.telling]
        return next(iter(telling or found), None)


def parting(
    a: Graph, b: Graph, pairs: Mapping[int, tuple[int, Match]], output_a: int | None, output_b: int | None
) -> Parting:
    """Where `a` and `b`, of which the nodes `pairs` are common and the outputs are not, part."""
    ours = _Side(a, {n: other for n, (other, _) in pairs.items()}, output_a)
    theirs = _Side(b, {other: other for other, _ in pairs.values()}, output_b)
    back = {other: n for n, (other, _) in pairs.items()}

    def shared(boundary: Iterable[int]) -> tuple[tuple[int, int], ...]:
        return tuple(sorted((back[n], n) for n in boundary))

    found = _beside(ours, theirs)
    if found is None:
        return _apart(ours, theirs, shared)
    number, other, figures = found
    return Parting(ours.first(number), theirs.first(other), number, other, figures, shared(ours.boundary[number]))


def _beside(ours: _Side, theirs: _Side) -> tuple[int, int, Match] | None:
    """The first parted node of A and the one of B that sits at its place: of its size, and computed from the same.

    Of several that were computed from the same it is the first that is recognisably one of B's; where none is, the
    first.
    """
    by_size: dict[int, list[int]] = {}
    for n in theirs.parted:
        if theirs.graph.nodes[n].values.telling:
            by_size.setdefault(theirs.graph.nodes[n].values.array.size, []).append(n)
    earliest: tuple[int, int, Match] | None = None
    place: frozenset[int] = frozenset()
    for number in ours.parted:
        values = ours.graph.nodes[number].values
        beside = by_size.get(values.array.size, []) if values.telling else []
        if not beside or (earliest is not None and ours.boundary[number] != place):
            continue
        for alike in (_exactly, _at_the_root):
            wanted = alike(ours.boundary[number], theirs.graph)
            placed = [n for n in beside if alike(theirs.boundary[n], theirs.graph) == wanted]
            compared = [
                (unlike, n, figures)
                for n in placed
                if (found := closest(values, theirs.graph.nodes[n].values)) is not None
                for unlike, figures in [found]
            ]
            if not compared:
                continue
            unlike, other, figures = min(compared, key=lambda c: c[:2])
            if unlike < _ALIKE:
                return number, other, figures
            if earliest is None:
                earliest, place = (number, other, figures), ours.boundary[number]
            break
    return earliest


def _apart(ours: _Side, theirs: _Side, shared: Callable[[Iterable[int]], tuple[tuple[int, int], ...]]) -> Parting:
    """Where no tensor of B sits at the place of one of A: the first operation of each after what is common."""
    first = ours.first()
    read = frozenset() if first is None else ours.boundary[first]
    other = theirs.first(where=lambda n: bool(read & theirs.boundary[n])) if read else None
    if other is None:
        other = theirs.first()
    boundary = read if other is None else read | theirs.boundary[other]
    return Parting(first, other, None, None, None, shared(boundary))


def _exactly(boundary: frozenset[int], b: Graph) -> frozenset[int]:
    return boundary


def _at_the_root(boundary: frozenset[int], b: Graph) -> frozenset[int]:
    """Without what was itself computed from another of them: the mean of a tensor beside the tensor."""
    return frozenset(n for n in boundary if not any(m != n and b.ancestors[n] >> m & 1 for m in boundary))
