"""Two models, one of them altered in one place: where they part, as real frameworks compute them."""

import copy
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from conformance.diffing import diff

WIDTH, HEADS, TOKENS, LAYERS, ALTERED = 16, 2, 5, 3, 1
INPUTS = {"x": np.random.default_rng(3).normal(size=(1, TOKENS, WIDTH)).astype(np.float32)}


class Attention(nn.Module):
    """Self-attention of four projections."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.scale = (WIDTH // HEADS) ** -0.5

    def forward(self, x):
        q, k, v = (p(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (self.query, self.key, self.value))
        weights = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(-2))


class Layer(nn.Module):
    """An encoder layer, normalised before each part."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.linear1, self.linear2 = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(3 * WIDTH, WIDTH)
        self.activation = nn.GELU()
        self.residual = 1.0

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        y = self.linear2(self.activation(self.linear1(self.norm2(x))))
        return x + y if self.residual else y


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    made = Encoder().eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter += 0.3 * torch.randn_like(parameter) * (1 if "bias" in name else 0.3)
    return made


def exported(module, folder, inputs=INPUTS):
    """The module as an ONNX file, by PyTorch's own exporter."""
    path = folder / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter of TorchScript is deprecated; the other needs onnxscript
        given = tuple(torch.from_numpy(a) for a in inputs.values())
        torch.onnx.export(module, given, path, dynamo=False, opset_version=18, input_names=list(inputs))
    return path


def altered(encoder, alteration, number=ALTERED):
    changed = copy.deepcopy(encoder)
    with torch.no_grad():
        alteration(changed.layers[number])
    return changed


def weight(layer):
    layer.linear1.weight[3, 5] += 0.01


def epsilon(layer):
    layer.norm2.eps = 1e-6


def gelu(layer):
    layer.activation = nn.GELU(approximate="tanh")


def scale(layer):
    layer.attention.scale *= 1.01


def residual(layer):
    layer.residual = 0.0


def bias(layer):
    layer.attention.value.bias.zero_()


ALTERATIONS = {
    # what is altered: the module in which PyTorch parts, and the node of ONNX
    weight: ("layers.1.linear1", "/layers.1/linear1/"),
    epsilon: ("layers.1.norm2", "/layers.1/norm2/"),
    gelu: ("layers.1.activation", "/layers.1/activation/"),
    scale: ("layers.1.attention", "/layers.1/attention/Mul"),
    residual: ("layers.1", "/layers.2/norm1/"),
    bias: ("layers.1.attention.value", "/layers.1/attention/value/"),
}


def test_a_faithful_export_is_the_same(encoder, tmp_path):
    found = diff(encoder, exported(encoder, tmp_path), inputs=INPUTS)
    assert (found.status, found.first, found.exit_code) == ("same", None, 0)
    assert found.output.ratio < 0.7
    # Every matrix product of PyTorch has its counterpart.
    products = [p for p in found.pairs if p.a.operation in ("aten.addmm.default", "aten.bmm.default")]
    assert len(products) == 8 * LAYERS
    assert {p.a.scope.split(".")[1] for p in products} == {"0", "1", "2"}
    assert all(f"/layers.{p.a.scope.split('.')[1]}/" in p.b.scope for p in products)


@pytest.mark.parametrize("alteration", ALTERATIONS, ids=lambda a: a.__name__)
def test_an_export_altered_in_one_layer_parts_there(encoder, tmp_path, alteration):
    found = diff(encoder, exported(altered(encoder, alteration), tmp_path), inputs=INPUTS)
    ours, theirs = ALTERATIONS[alteration]
    assert (found.status, found.exit_code) == ("parts", 1)
    assert found.first.a.scope == ours
    assert found.first.b.scope.startswith(theirs)
    if alteration is not residual:
        assert found.first.figures.ratio > 1


@pytest.mark.parametrize("alteration", ALTERATIONS, ids=lambda a: a.__name__)
def test_the_sides_can_be_exchanged(encoder, tmp_path, alteration):
    found = diff(exported(altered(encoder, alteration), tmp_path), encoder, inputs=INPUTS)
    ours, theirs = ALTERATIONS[alteration]
    assert found.status == "parts"
    assert found.first.b.scope == ours
    assert found.first.a.scope.startswith(theirs)


@pytest.mark.parametrize("alteration", ALTERATIONS, ids=lambda a: a.__name__)
def test_two_models_of_one_framework(encoder, alteration):
    found = diff(encoder, altered(encoder, alteration), inputs=INPUTS)
    assert found.rounding == "both"
    assert found.first.a.scope == ALTERATIONS[alteration][0]


def test_of_several_differences_the_first_is_told(encoder, tmp_path):
    changed = altered(altered(encoder, weight, 2), gelu, 1)
    found = diff(encoder, exported(changed, tmp_path), inputs=INPUTS)
    assert found.first.a.scope == "layers.1.activation"
    assert found.first.shared[-1].a.scope == "layers.1.linear1"


def test_layers_that_are_equal_are_not_taken_for_one_another(encoder, tmp_path):
    equal = copy.deepcopy(encoder)
    for number in (1, 2):
        equal.layers[number].load_state_dict(equal.layers[0].state_dict())
    assert diff(equal, exported(equal, tmp_path), inputs=INPUTS).status == "same"
    found = diff(equal, exported(altered(equal, weight, 2), tmp_path), inputs=INPUTS)
    assert found.first.a.scope == "layers.2.linear1"


def test_what_does_not_reach_the_output_is_no_difference(encoder, tmp_path):
    """A constant added to every key moves all scores of a row alike, which the softmax takes out."""

    def key_bias(layer):
        layer.attention.key.bias += 1.0

    found = diff(encoder, exported(altered(encoder, key_bias), tmp_path), inputs=INPUTS)
    assert found.status == "same"
    assert not any(p.a.scope == "layers.1.attention.key" and p.a.operation == "aten.addmm.default" for p in found.pairs)


class Branches(nn.Module):
    """Two branches with the same weights on the same input."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.out = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(12, 3)
        self.right.load_state_dict(self.left.state_dict())

    def forward(self, x):
        return self.out(torch.cat([self.left(x).exp(), self.right(x).exp()], -1))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("exporting", [True, False])
def test_identical_branches_are_told_apart_by_their_place(side, exporting, tmp_path):
    torch.manual_seed(1)
    model, inputs = Branches().eval(), {"x": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)}
    changed = copy.deepcopy(model)
    with torch.no_grad():
        getattr(changed, side).weight[1, 2] += 0.1
    found = diff(model, exported(changed, tmp_path, inputs) if exporting else changed, inputs=inputs)
    assert found.first.a.scope == side
    assert side in found.first.b.scope


# -- another framework --------------------------------------------------------------------------------------------
def network(parameters, epsilon=1e-5, exact=True):
    """The encoder in JAX, with PyTorch's parameters: the mathematics of the module above, written anew."""
    held = {n: jnp.asarray(p.detach().numpy()) for n, p in parameters.items()}

    def linear(name, x):
        return x @ held[f"{name}.weight"].astype(x.dtype).T + held[f"{name}.bias"].astype(x.dtype)

    def norm(name, x, epsilon):
        centred = x - x.mean(-1, keepdims=True)
        normalised = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
        return normalised * held[f"{name}.weight"].astype(x.dtype) + held[f"{name}.bias"].astype(x.dtype)

    def attention(name, x):
        q, k, v = (linear(f"{name}.{p}", x).reshape(*x.shape[:2], HEADS, -1) for p in ("query", "key", "value"))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q * (WIDTH // HEADS) ** -0.5, k)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, -1), v)
        return linear(f"{name}.out", mixed.reshape(x.shape))

    def forward(x):
        for i in range(LAYERS):
            name = f"layers.{i}"
            altered = i == ALTERED
            x = x + attention(f"{name}.attention", norm(f"{name}.norm1", x, epsilon if altered else 1e-5))
            y = linear(f"{name}.linear1", norm(f"{name}.norm2", x, 1e-5))
            x = x + linear(f"{name}.linear2", jax.nn.gelu(y, approximate=altered and not exact))
        return x

    return forward


@pytest.mark.parametrize(
    ("options", "scope"),
    [({}, None), ({"epsilon": 1e-6}, "layers.1.norm1"), ({"exact": False}, "layers.1.activation")],
)
def test_a_module_beside_a_function_of_jax(encoder, options, scope):
    function = network(dict(encoder.named_parameters()), **options)
    found = diff(encoder, function, inputs=INPUTS, adapters=(None, "jax"))
    assert found.status == ("same" if scope is None else "parts")
    if scope is not None:
        assert found.first.a.scope == scope
