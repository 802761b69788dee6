"""Additive attention beside sums of 50 digits, and by hand."""

import math

import mpmath
import numpy as np
import pytest
from exact import affine, check, drawn, exact, filled, softmax, steps, total

from conformance.errors import ConformanceError

QUERY, VALUE = drawn(0, 2, 3, 4), drawn(1, 2, 5, 6)
KERNELS = {"query_kernel": drawn(2, 4, 7), "key_kernel": drawn(3, 6, 7)}
MASK = np.array([[1, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool)


def reference(query, key, value, scale=None, mask=None):
    """Bahdanau et al., appendix A.1.2, one element after the other; rows without a key are zero."""
    batch, rows, dim = query.shape
    columns = key.shape[1]

    def score(b, i, j):
        terms = [mpmath.tanh(query[b, i, d] + key[b, j, d]) for d in range(dim)]
        return total(terms if scale is None else (scale[d] * terms[d] for d in range(dim)))

    scores = filled((batch, rows, columns), score)
    made = {"query": query, "key": key, "scores": scores}
    if mask is not None:
        made["masked"] = filled(scores.shape, lambda b, i, j: scores[b, i, j] if mask[b, j] else -mpmath.inf)
    seen = np.ones((batch, columns), bool) if mask is None else mask

    def shares(b, i):
        row = softmax([scores[b, i, j] for j in range(columns) if seen[b, j]]) if seen[b].any() else []
        return [row[int(seen[b, :j].sum())] if seen[b, j] else mpmath.mpf(0) for j in range(columns)]

    every = {(b, i): shares(b, i) for b, i in np.ndindex(batch, rows)}
    made["weights"] = filled(scores.shape, lambda b, i, j: every[b, i][j])
    made["context"] = filled(
        (batch, rows, value.shape[2]), lambda b, i, v: total(every[b, i][j] * value[b, j, v] for j in range(columns))
    )
    return made


def test_projections_beside_50_digits():
    scale = drawn(4, 7)
    query, key = (affine(exact(x), exact(k), None) for x, k in zip((QUERY, VALUE), KERNELS.values(), strict=True))
    found = steps("additive_attention", {"query": QUERY, "value": VALUE}, {**KERNELS, "scale": scale})
    check(found, reference(query, key, exact(VALUE), exact(scale)), most=8)


@pytest.mark.parametrize("mask", [None, MASK])
def test_keys_of_their_own_and_no_weights_beside_50_digits(mask):
    key = drawn(5, 2, 5, 4)
    given = {"query": QUERY, "value": VALUE, "key": key, **({} if mask is None else {"mask": mask})}
    check(steps("additive_attention", given), reference(exact(QUERY), exact(key), exact(VALUE), None, mask), most=8)


def test_by_hand():
    """One feature: scores 2 tanh(1) and 2 tanh(5)."""
    given = {"query": np.array([[[1.0]]]), "value": np.array([[[0.0], [4.0]]])}
    found = steps("additive_attention", given, {"scale": np.array([2.0])})
    share = 1 / (1 + math.exp(2 * math.tanh(1) - 2 * math.tanh(5)))
    assert np.allclose(found["context"], 4 * share, rtol=1e-15)


@pytest.mark.parametrize("shape", [(2, 5), (3, 5), (2, 3, 5), (2, 1, 3, 5)])
def test_a_float_mask_is_added_in_any_of_its_forms(shape):
    mask = drawn(6, *shape)
    key = drawn(5, 2, 5, 4)
    found = steps("additive_attention", {"query": QUERY, "value": VALUE, "key": key, "mask": mask})
    whole = mask[:, None] if shape == (2, 5) else mask[:, 0] if len(shape) == 4 else mask
    assert np.array_equal(found["masked"], found["scores"] + whole)


def test_a_query_and_a_key_of_other_widths_are_refused():
    with pytest.raises(ConformanceError, match="a query of 4 features and a key of 6 cannot be added"):
        steps("additive_attention", {"query": QUERY, "value": VALUE})


def test_kernels_exchanged_do_not_fit_other_widths():
    with pytest.raises(ConformanceError):
        steps("additive_attention", {"query": QUERY, "value": VALUE}, KERNELS, additive_kernel_order="key|query")
