"""The bilinear map against values by hand, and against sums of 50 digits."""

import numpy as np
from exact import check, drawn, exact, filled, steps, total


def test_by_hand():
    given = {"first": np.array([[1.0, 2.0]]), "second": np.array([[10.0, 100.0, 1000.0]])}
    kernel = np.zeros((2, 3, 2))
    kernel[0, 1, 0], kernel[1, 0, 0], kernel[1, 2, 1] = 1, 1, 3
    found = steps("bilinear", given, {"kernel": kernel, "bias": np.array([0.5, -0.5])})
    assert found["product"].tolist() == [[120, 6000]]
    assert found["output"].tolist() == [[120.5, 5999.5]]


def test_beside_sums_of_fifty_digits():
    given = {"first": drawn(0, 2, 3, 4), "second": drawn(1, 2, 3, 5)}
    weights = {"kernel": drawn(2, 4, 5, 6), "bias": drawn(3, 6)}
    first, second, kernel, bias = map(exact, (*given.values(), *weights.values()))

    def element(b, t, o):
        return total(first[b, t, i] * kernel[i, j, o] * second[b, t, j] for i in range(4) for j in range(5))

    product = filled((2, 3, 6), element)
    check(steps("bilinear", given, weights), {"product": product, "output": product + bias[None, None]})
