"""Planted faults of which the judge does not say all that it should: what it misses, and why.

The tests hold it to exactly this. An entry that is not needed any more fails them, and the entries count
against the shares that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shortfall:
    """Whether the right steps are blamed all the same, whether the names are right, and `why` something is not."""

    placed: bool
    named: bool
    why: str


_ONE_STEP = (
    "of two conventions in a scanned layer, both are said of the one step that has both, not of the first of each"
)
SHORTFALLS = {
    "flax_norm_without_bias": Shortfall(
        False, True, "`x - mean` is taken for the normalised value, which Flax never has: its factor holds the scale"
    ),
    "jax_scaled_twice_and_over_queries": Shortfall(
        False, False, "from the step before the first missing one, a single fault is looked for"
    ),
    "jax_lstm_hard_sigmoid_and_forget_bias": Shortfall(True, False, _ONE_STEP),
    "KerasLstmHardSigmoidAndForgetBias": Shortfall(True, False, _ONE_STEP),
    "KerasSoftmaxOverAnotherAxis": Shortfall(
        False, True, "the transposed input is taken for `shifted`, and the transposed output for `exponentials`"
    ),
}
WITHOUT = Shortfall(True, True, "")
