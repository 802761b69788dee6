"""Keras's own activations in a user's hands, in a process of their own: one process has one Keras back end."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from conformance.checking import check, check_model

X = np.random.default_rng(0).normal(size=(4, 5, 6)) * 3


@pytest.fixture(scope="module")
def there():
    os.environ["KERAS_BACKEND"] = "torch"  # what the process inherits
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(str).result()  # the process is there
        del os.environ["KERAS_BACKEND"]
        yield lambda function: pool.submit(function).result()


def layers_there():
    from keras import layers

    made = [
        (layers.ReLU(), "relu"),
        (layers.ReLU(6.0), "relu6"),
        (layers.ReLU(negative_slope=0.25), "leaky_relu"),
        (layers.ReLU(threshold=1.0), "relu"),
        (layers.LeakyReLU(), "leaky_relu"),
        (layers.ELU(0.5), "elu"),
        (layers.Activation("silu"), "silu"),
        (layers.Activation("leaky_relu"), "leaky_relu"),
        (layers.Activation("glu"), "glu"),
        (layers.Activation("log_softmax"), "log_softmax"),
    ]
    for shared in (None, [1]):
        prelu = layers.PReLU(shared_axes=shared)
        prelu.build((None, 5, 6))
        prelu.alpha.assign(np.random.default_rng(1).uniform(-1, 1, prelu.alpha.shape))
        made.append((prelu, "prelu"))
    found = []
    for layer, name in made:
        layer(X.astype("float32"))
        case = check(layer, name, inputs={"x": X}, dtype="float32")
        found.append((name, case.status, case.config))
    return found


def test_layers_are_known_with_their_options(there):
    slope = float(np.float32(0.2))
    assert there(layers_there) == [
        ("relu", "conforms", {}),
        ("relu6", "conforms", {}),
        ("leaky_relu", "conforms", {"slope": 0.25}),
        ("relu", "unsupported", {}),
        ("leaky_relu", "conforms", {"slope": pytest.approx(0.3)}),
        ("elu", "conforms", {"alpha": 0.5}),
        ("silu", "conforms", {}),
        ("leaky_relu", "conforms", {"slope": pytest.approx(slope)}),
        ("glu", "conforms", {"axis": -1}),
        ("log_softmax", "conforms", {"axis": -1}),
        ("prelu", "conforms", {}),
        ("prelu", "conforms", {}),
    ]


def model_there():
    from keras import Sequential, layers

    model = Sequential(
        [layers.Input((6,)), layers.Dense(8), layers.LeakyReLU(0.1), layers.ReLU(6.0), layers.Activation("tanh")]
    )
    return sorted((case.layer, case.status) for case in check_model(model).cases)


def test_the_activations_of_a_model_are_judged(there):
    assert there(model_there) == [(name, "conforms") for name in ("leaky_relu", "linear", "relu6", "tanh")]
