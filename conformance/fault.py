"""Where a subject leaves the oracle: the search for the faulty step among those that were not found.

The conventions are replayed from the first missing step on, and the replay under which later steps come
out fixes the alignment. Where none helps, the tensors of the tape are asked (`conformance.unnamed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import number as numeric
from conformance.figures import compare, informative
from conformance.flow import carry
from conformance.hypothesis import NAMED, ROUNDS, Fault, Round
from conformance.rounding import RoundedArray
from conformance.tape import Found
from conformance.unnamed import UnnamedFault
from conformance.variants import alternatives, is_numeric, of_each_step, precisions, rearranges

if TYPE_CHECKING:
    from conformance.layer import Step
    from conformance.walk import Walk

_MOST_FAULTS = 3  # faulty steps that one search follows before it gives up
_FEW = 12  # conventions of a layer of which every pair can be tried
_SOLVED = 3  # tensors for which a number is solved
_AHEAD = (
    24  # missing steps that a replay or a search goes through: more than any layer has, so that a row of them is local
)
_FAR = 1000.0  # tolerances of the canonical output beyond which a replay is not worth its deviations


class FaultSearch:
    """The search, from where a walk stands: it looks, and changes nothing of the walk."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.flow, self.tape, self.model = walk.flow, walk.tape, walk.model
        known = [k for s in self.flow.steps for k in s.conventions if not rearranges(k)]
        self.small = sum(len(alternatives(self.flow, k)) for k in known) <= _FEW
        self._kept: Any = None
        self._outputs: dict[int, Any] = {}
        self._able: dict[str, list[Any]] = {}
        self.cut_short = False  # whether a second fault would have been looked for, had there been depth left

    def fault(self, pending: list[int]) -> Fault:
        """The likeliest fault among the missing steps `pending` (by number, the output last)."""
        if len(pending) > _AHEAD:  # in a long row of layers, all that follows a fault is missing
            pending = [*pending[:_AHEAD], pending[-1]]
        replayed = self._best_replay(pending)
        if replayed is None or not replayed.complete:
            replayed = self._reconsidered(pending[0]) or replayed
        if replayed is not None and replayed.complete:
            return replayed
        # A replay that leaves something unexplained yields to evidence for a fault before it.
        unnamed = UnnamedFault(self)
        for number in pending[:-1]:
            if replayed is not None and number >= replayed.number:
                break
            seen = unnamed.confirmed(number) or unnamed.together(number, pending)
            if seen is not None:
                return seen
        return replayed or unnamed.likeliest(pending)

    def _best_replay(self, pending: list[int]) -> Fault | None:
        """The replay with the fewest changes that explains the output; else the one that gets furthest."""
        best: Fault | None = None
        deeper = False
        for tried in ROUNDS:
            if tried.depth > 1 and not deeper:
                continue
            self.cut_short = False
            fault = self._replayed(pending, tried.depth, tried)
            if fault is not None and (best is None or fault.rank < best.rank):
                best = fault
            if best is not None and best.complete:
                break
            deeper = self.cut_short if tried.depth > 1 else deeper or self.cut_short
        return best

    def _replayed(self, pending: list[int], depth: int, tried: Round) -> Fault | None:
        """The best replay of conventions at one of the missing steps, and at further ones after it."""
        best: Fault | None = None
        for number in pending:
            for variant in self.variants(number, tried):
                fault = self._try(number, variant, depth, tried)
                if fault is not None and (best is None or fault.rank < best.rank):
                    best = fault
            if best is not None and best.complete and best.number == number and not best.rest:
                break
        return best

    def _reconsidered(self, missing: int) -> Fault | None:
        """The replay that explains the output from the step before the first missing one.

        What that step should be is there, but the subject may have gone on from something else: a query that
        is scaled, and then its scores again.
        """
        before = missing - 1
        if before < 0 or self.walk.placed[self.flow.steps[before].name].faulty:
            return None
        if self.flow.steps[before].name not in self.flow.steps[missing].reads.values():
            return None
        tried = (self._try(before, variant, 2, NAMED) for variant in self.variants(before, NAMED))
        return min((f for f in tried if f is not None and f.complete), key=lambda f: f.rank, default=None)

    def variants(self, number: int, tried: Round) -> Iterator[dict[str, Any]]:
        """The conventions that can act at a step, by themselves and then two at the same step."""
        step = self.flow.steps[number]
        free = [k for k in step.conventions if k not in self.walk.active or rearranges(k)]
        only = self.walk.only
        if only is not None:
            singles = [(k, v) for k in free for keyword, v in only if keyword == k]
        elif tried.precision:
            singles = [(k, v) for k in free for v in precisions(k)]
        else:
            singles = [(k, v) for k in free for v in self._possible(k)]
        if tried.known or tried.precision or only is not None:
            yield from ({keyword: value} for keyword, value in singles)
        if tried.pairs:
            for (k1, v1), (k2, v2) in combinations(singles, 2):
                # Kernels that are packed otherwise are not expected to have a second fault of the kind.
                if k1 != k2 and not (rearranges(k1) and rearranges(k2) and "attention_qkv_packing" in (k1, k2)):
                    yield {k1: v1, k2: v2}
        if tried.numbers and only is None:
            for keyword in filter(is_numeric, free):
                known = alternatives(self.flow, keyword)
                for others in [{k: v} for k, v in singles if k != keyword] if tried.pairs else [{}]:
                    for variant in self._solved(number, keyword, others):
                        if not {variant[keyword], variant[keyword].removesuffix(".0")} & set(known):
                            yield {k: variant[k] for k in step.conventions if k in variant}

    def _possible(self, keyword: str) -> list[Any]:
        """The values of a convention; of one about weights, those that the steps that were found bear out.

        Where none does, it may be that the weights are rearranged in some steps only.
        """
        if keyword not in self._able:
            values = alternatives(self.flow, keyword)
            agreed = [v for v in values if not self._exceptions({keyword: v})] if rearranges(keyword) else values
            self._able[keyword] = agreed or values
        return self._able[keyword]

    def _try(self, number: int, variant: Mapping[str, Any], depth: int, tried: Round) -> Fault | None:
        """What follows if the step at `number` is computed under `variant`: None if nothing does."""
        try:
            return self._replay(number, variant, depth, tried)
        except (ValueError, IndexError):  # the variant's shapes do not fit here
            return None

    def _replay(self, number: int, variant: Mapping[str, Any], depth: int, tried: Round) -> Fault | None:
        step = self.flow.steps[number]
        value = step(self.walk.values, **{**self.walk.active, **variant})
        if compare(self._unchanged(number), value.value).conforms:
            return None  # no change at this point: it would explain nothing
        last = number == len(self.flow.steps) - 1
        found = None
        if informative(value):  # else any tensor of its size would do
            after = self.walk.parents_position(number)
            found = self.walk.locate(number, value) if last else self.tape.find(value, after=after)
        if last:
            if found is None:
                return None
            fault = Fault(number, value, found, variant, number, True)
            return replace(fault, exceptions=self._exceptions(variant))
        if found is None and len(variant) > 1 and any(map(rearranges, variant)) and not self.small:
            return None  # too many to replay where the tape does not show them
        if found is None and not (depth > 1 and self.small) and self._hopeless(number, variant):
            return None
        fresh = found is not None and self.fresh(found) and not self._flexible(variant)
        base = value if found is None else carry(found.array, self.model)
        fault = Fault(number, base, found, variant, number, False)
        followed = self.followed(fault, {**self.walk.active, **variant}, fresh, depth, tried)
        if (followed is None or not followed.complete) and self._acts_later(fault):
            here = replace(fault, here_only=True, exceptions=1)
            followed = self._better(followed, self.followed(here, self.walk.active, fresh, depth, tried))
        if followed is None:
            return None
        return replace(followed, exceptions=followed.exceptions + self._exceptions(variant))

    def _hopeless(self, number: int, variant: Mapping[str, Any]) -> bool:
        """Whether a variant leaves the output far off, where nothing else can speak for it: a cheap look, without
        deviations, before the replay."""
        if number not in self._outputs:
            missing = [s for s in self.flow.steps[number + 1 : -1] if self.walk.placed[s.name].found is None]
            sizes: dict[str, int] = {}
            output = self._output(number, self.walk.values, self.walk.active, sizes)
            free = {e.array.size for i, e in enumerate(self.tape.entries) if i not in self.tape.claimed}
            alone = output is not None and not any(sizes.get(step.name) in free for step in missing)
            self._outputs[number] = output.tolerance if alone else None
        tolerance, result = self._outputs[number], self.walk.result
        if tolerance is None or tolerance.shape != result.shape:
            return False
        plain = {n: v.value if isinstance(v, RoundedArray) else v for n, v in self.walk.values.items()}
        ways = [{**self.walk.active, **variant}] + ([self.walk.active] if any(map(of_each_step, variant)) else [])
        for active in ways:  # also in this step only
            with np.errstate(all="ignore"):  # a division by nothing is what some variants are about
                value = self.flow.steps[number](plain, **{**active, **variant})
                output = self._output(number + 1, {**plain, self.flow.steps[number].name: value}, active)
                if output is None or not np.any(np.abs(output - result) > _FAR * tolerance):
                    return False  # not so far, or not the same in every step
        return True

    @staticmethod
    def _better(first: Fault | None, second: Fault | None) -> Fault | None:
        if first is None or second is None:
            return first or second
        return second if second.rank < first.rank else first

    def _unchanged(self, number: int) -> RoundedArray:
        """The step under the conventions that are in force; kept, since every variant is compared with it."""
        key = number, id(self.walk.values), tuple(sorted(self.walk.active.items()))
        if self._kept is None or self._kept[0] != key or self._kept[1] is not self.walk.values:
            self._kept = key, self.walk.values, self.flow.steps[number](self.walk.values, **self.walk.active)
        kept: RoundedArray = self._kept[2]
        return kept

    def _acts_later(self, fault: Fault) -> bool:
        """Whether a fault of weights or arithmetic, which need not be the same everywhere, may be in later steps."""
        by_step = {k for k in fault.conventions if of_each_step(k)}
        return any(
            by_step & set(step.conventions)
            and self.walk.placed[step.name].found is None
            and not self.walk.placed[step.name].faulty
            for step in self.flow.steps[fault.number + 1 :]
        )

    def _exceptions(self, conventions: Mapping[str, Any]) -> int:
        """How many of the steps that were found are not what `conventions` make them."""
        count = 0
        for step in self.flow.steps:
            at = self.walk.placed[step.name]
            acting = {k: v for k, v in conventions.items() if k in step.conventions}
            if acting and at.found is not None and not at.faulty:
                try:
                    value = step(self.walk.values, **acting)
                except (ValueError, IndexError, KeyError):  # it does not fit there, or what it reads was let go
                    continue
                count += not compare(value, at.found.array).conforms
        return count

    def _solved(self, number: int, keyword: str, others: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The numbers that, for `keyword`, make a tensor of the tape the step's, or else the output come out."""
        step, conventions = self.flow.steps[number], {**self.walk.active, **others}
        try:
            expected = step(self.walk.values, **conventions)
        except (ValueError, IndexError):
            return
        plain = {n: v.value if isinstance(v, RoundedArray) else v for n, v in self.walk.values.items()}

        def there(value: float) -> Any:
            return step(plain, **{**conventions, keyword: repr(value)})

        last = number == len(self.flow.steps) - 1
        seen = [] if last else self.tape.candidates(expected, after=self.walk.parents_position(number))[:_SOLVED]
        for found in seen:
            for value in numeric.near(there, found.array, expected.tolerance, (1, 2, 3, 5)):
                yield {**others, keyword: repr(value)}
        # What looks like the step may be something else, such as x - mean where the division comes with the scale.
        output = self._output(number, self.walk.values, conventions)
        if output is not None and output.shape == self.walk.result.shape:

            def behind(value: float) -> Any:
                return self._output(number, plain, {**conventions, keyword: repr(value)})

            for value in numeric.near(behind, self.walk.result, output.tolerance, (1, 3)):
                yield {**others, keyword: repr(value)}

    def _output(
        self, number: int, values: Mapping[str, Any], active: Mapping[str, Any], sizes: dict[str, int] | None = None
    ) -> Any:
        """The output, replayed from the step at `number` on through the steps that are missing; and their `sizes`."""
        values = dict(values)
        if len(self.flow.steps) - number > 2 * _AHEAD:
            return None
        try:
            for step in self.flow.steps[number:]:
                at = self.walk.placed[step.name]
                if step is self.flow.steps[number] or (at.found is None and not at.faulty):
                    values[step.name] = step(values, **active)
                    if sizes is not None:
                        sizes[step.name] = values[step.name].size
        except (ValueError, IndexError):
            return None
        return values[self.flow.output]

    def _flexible(self, variant: Mapping[str, Any]) -> bool:
        """Whether a variant may give a tensor that is not meant to be the step, so that it must show in what follows:
        a product without its bias, or x - mean where a number of one is solved for to divide by."""
        return any(rearranges(k) or (is_numeric(k) and v not in alternatives(self.flow, k)) for k, v in variant.items())

    def fresh(self, found: Found) -> bool:
        """Whether a tensor is neither one that is known to be another step, nor a copy of it."""
        known = (p.found.array for p in self.walk.placed.values() if p.found is not None)
        return found.position not in self.tape.claimed and not any(np.array_equal(found.array, k) for k in known)

    def followed(self, fault: Fault, active: Mapping[str, Any], fresh: bool, depth: int, tried: Round) -> Fault | None:
        """`fault` with how far the walk gets from it; None where no later step is found."""
        saved, values = self.walk.values, {**self.walk.values, self.flow.steps[fault.number].name: fault.value}
        self.walk.values = values
        reached, last = fault.number if fresh else -1, len(self.flow.steps) - 1
        part = _part(self.flow.steps[fault.number])
        missing: list[int] = []
        try:
            for number in range(fault.number + 1, len(self.flow.steps)):
                step = self.flow.steps[number]
                if self.walk.placed[step.name].found is not None or self.walk.placed[step.name].faulty:
                    continue
                if len(missing) > _AHEAD:
                    break
                acting = active if _part(step) == part else {}  # another layer of a row has its own conventions
                used, expected, found = self.walk.looked_for(number, acting, everywhere=True)
                if found is None or not informative(expected):  # an output of which nothing can be said is no evidence
                    values[step.name] = expected
                    missing.append(number)
                else:
                    if any(k in acting and k in step.conventions and k not in used for k in fault.conventions):
                        fault = replace(fault, exceptions=fault.exceptions + (not fault.here_only))
                    values[step.name] = carry(found.array, self.model)
                    missing = [m for m in missing if not self._leads_to(m, number)]
                    if self._leads_to(fault.number, number) and (number == last or self._tells(found, fault)):
                        reached = max(reached, number)
            complete = reached == last
            # A second fault is looked for only behind a first one whose values the tape does hold:
            # otherwise every pair of conventions in the layer would have to be tried.
            deeper_still = not complete and bool(missing) and (fault.found is not None or self.small)
            self.cut_short |= deeper_still and depth == 1
            if deeper_still and depth > 1:
                held, self.walk.active = self.walk.active, dict(active)
                deeper = self._replayed(missing, depth - 1, replace(tried, known=True))
                self.walk.active = held
                if deeper is not None:  # it rests on a tensor that comes out only after both
                    furthest = max(reached, deeper.reached)
                    return replace(fault, reached=furthest, complete=deeper.complete, rest=(deeper, *deeper.rest))
        finally:
            self.walk.values = saved
        if reached < 0:
            return None
        return replace(fault, reached=reached, complete=complete)

    def _tells(self, found: Found, fault: Fault) -> bool:
        """Whether a later step's tensor is evidence for a fault: not where it is the same values moved about."""
        ours = fault.value.value
        same = found.array.size == ours.size and np.array_equal(np.sort(found.array, None), np.sort(ours, None))
        return not same and self.fresh(found)

    def _leads_to(self, earlier: int, later: int) -> bool:
        names = {self.flow.steps[earlier].name}
        for step in self.flow.steps[earlier + 1 : later + 1]:
            if names & set(step.reads.values()):
                names.add(step.name)
        return self.flow.steps[later].name in names

    def indistinguishable(self, fault: Fault) -> list[Mapping[str, Any]]:
        """Other variants with as many changes that explain as much."""
        others: list[Mapping[str, Any]] = []
        precision = any(precisions(keyword) for keyword in fault.conventions)
        tried = Round(precision=True) if precision else Round(known=len(fault.conventions) == 1, pairs=True)
        depth = 1 + len(fault.rest)
        # Once more: where the canonical step had been found too, that was an exception, and is none any more.
        own = self._try(fault.number, fault.conventions, depth, NAMED) or fault
        for variant in self.variants(fault.number, tried):
            if variant != fault.conventions and len(variant) == len(fault.conventions):
                other = self._try(fault.number, variant, depth, NAMED)
                if other is not None and other.rank[:5] == own.rank[:5]:
                    others.append(variant)
        return others


def _part(step: Step) -> str:
    """The part of a composite that a step belongs to; empty in a layer of its own."""
    return step.name.rpartition(".")[0]
