import numpy as np
from exact import affine, check, drawn, exact, steps


def test_linear_against_50_digits():
    x, kernel, bias = drawn(0, 2, 3, 5), drawn(1, 5, 4), drawn(2, 4)
    product = affine(exact(x), exact(kernel), None)
    check(
        steps("linear", {"x": x}, {"kernel": kernel, "bias": bias}),
        {"product": product, "output": affine(exact(x), exact(kernel), exact(bias))},
    )


def test_without_a_bias_the_output_is_the_product():
    found = steps("linear", {"x": drawn(0, 3, 5)}, {"kernel": drawn(1, 5, 4)})
    assert np.array_equal(found["output"], found["product"])


def test_by_hand():
    found = steps(
        "linear",
        {"x": np.array([[1.0, 2.0]])},
        {"kernel": np.array([[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]]), "bias": np.array([0.5, 0.25, -1.0])},
    )
    assert found["product"].tolist() == [[5, 50, 500]]
    assert found["output"].tolist() == [[5.5, 50.25, 499]]


def test_one_vector_is_a_batch_of_no_axes():
    found = steps("linear", {"x": np.array([1.0, -1.0])}, {"kernel": np.array([[3.0], [2.0]])})
    assert found["output"].tolist() == [1]
