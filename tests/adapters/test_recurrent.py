"""GRU and the simple recurrent layer in the frameworks: how weights are laid out, and what is read off a user's."""

import numpy as np
import pytest
import torch
from torch import nn

import conformance
from conformance.trace import Request
from conformance_adapters.keras_recurrent import GRU, GRUResetBefore
from conformance_adapters.onnx_recurrent import Gru as OnnxGru
from conformance_adapters.torch_recurrent import Gru, Lstm

NUMBERS = np.random.default_rng(7)
CONFIG = {
    "layers": 1,
    "direction": "forward",
    "reset": "after",
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
}


def request(*, biases=("bias", "recurrent_bias"), units=2, **config):
    weights = {
        "kernel": NUMBERS.normal(size=(3, 3 * units)),
        "recurrent_kernel": NUMBERS.normal(size=(units, 3 * units)),
    }
    weights |= {n: NUMBERS.normal(size=3 * units) for n in biases}
    return Request("gru", "", {**CONFIG, **config}, {"x": NUMBERS.normal(size=(2, 4, 3))}, weights, "float64")


def test_torch_has_a_bias_of_the_state_of_its_own():
    asked = request()
    module = Gru(asked).module
    assert np.array_equal(module.bias_hh_l0.detach().numpy(), asked.weights["recurrent_bias"])
    assert np.array_equal(module.weight_ih_l0.detach().numpy(), asked.weights["kernel"].T)
    alone = request(biases=("recurrent_bias",))
    assert np.array_equal(Gru(alone).module.bias_ih_l0.detach().numpy(), np.zeros(6))
    assert set(Gru(alone).weights()) == {"kernel", "recurrent_kernel", "recurrent_bias"}


def test_onnx_has_the_update_gate_first():
    asked = request(biases=("bias",))
    subject = OnnxGru(asked)
    kernel = asked.weights["kernel"]
    z, r, n = kernel[:, 2:4], kernel[:, 0:2], kernel[:, 4:6]
    assert np.array_equal(subject.graph.initializers["W"][0], np.concatenate([z, r, n], axis=1).T)
    assert np.array_equal(subject.graph.initializers["B"][0, 6:], np.zeros(6))
    assert all(np.array_equal(a, asked.weights[n]) for n, a in subject.weights().items())


def test_keras_has_two_layers_of_one_class():
    after, before = request(), request(biases=("bias",), reset="before")
    assert GRU.refuses(after) is None
    assert "reset='before'" in GRU.refuses(before)
    assert GRUResetBefore.refuses(before) is None
    assert "recurrent_bias" in GRUResetBefore.refuses(after)


def test_torch_has_no_reset_before_the_product():
    assert Gru.refuses(request(reset="before")) == "its reset is after, not before"


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (nn.GRU(5, 4), "gru"),
        (nn.GRU(5, 4, batch_first=True, bias=False), "gru"),
        (nn.RNN(5, 4, nonlinearity="relu", batch_first=True), "simple_rnn"),
        (nn.GRU(5, 4, bidirectional=True), "gru"),
        (nn.LSTM(5, 4, batch_first=True, bidirectional=True), "lstm"),
        (nn.LSTM(5, 4, proj_size=3), "lstm"),
    ],
    ids=["gru", "gru without bias", "rnn", "gru in both directions", "lstm in both directions", "lstm with projection"],
)
def test_a_module_of_torchs_own_is_known(module, layer):
    case = conformance.check(module, layer)
    assert (case.status, case.culprit) == ("conforms", None)


class Told(nn.Module):
    """A GRU in both directions that begins with states of its own."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.GRU(5, 4, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.recurrent(x, torch.linspace(-1, 1, 16).reshape(2, 2, 4))[0]


def test_the_states_of_both_directions_are_read_off_a_call():
    (case,) = conformance.check_model(Told(), inputs={"x": NUMBERS.normal(size=(2, 3, 5)).astype(np.float32)}).cases
    assert (case.layer, case.status) == ("gru", "conforms")


def test_a_torch_gru_beside_the_layer_of_the_paper():
    torch.manual_seed(3)
    case = conformance.check(nn.GRU(5, 4, batch_first=True), "gru", config={"reset": "before"})
    assert (case.status, case.culprit) == ("diverges", "candidate")
    (finding,) = case.diagnosis
    assert (finding.convention, finding.value, finding.canonical) == ("gru.reset", "after", "before")


class Cell(nn.Module):
    """A user's own GRU."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(5, 4)

    def forward(self, x):
        hidden, outputs = torch.zeros(len(x), 4), []
        for t in range(x.shape[1]):
            hidden = self.cell(x[:, t], hidden)
            outputs.append(hidden)
        return torch.stack(outputs, 1)


def test_the_two_biases_of_a_users_own_gru_are_told_apart():
    torch.manual_seed(3)
    case = conformance.check(Cell(), "gru")
    assert (case.status, case.culprit) == ("conforms", None)


class Both(nn.Module):
    """Two GRUs, one of which is given the sequence backwards; `merge` makes one output of theirs."""

    def __init__(self, merge, fault=False):
        super().__init__()
        self.there, self.back = nn.GRU(5, 4, batch_first=True), nn.GRU(5, 4, batch_first=True)
        self.merge, self.fault = merge, fault

    def forward(self, x):
        back = self.back(x.flip(1))[0].flip(1)
        return self.merge([self.there(x)[0], -back if self.fault else back])

    def held(self):
        made = {}
        for prefix, gru in (("", self.there), ("reverse_", self.back)):
            made |= {f"{prefix}kernel": gru.weight_ih_l0.T, f"{prefix}recurrent_kernel": gru.weight_hh_l0.T}
            made |= {f"{prefix}bias": gru.bias_ih_l0, f"{prefix}recurrent_bias": gru.bias_hh_l0}
        return {n: w.detach().numpy() for n, w in made.items()}


def both(merge, **options):
    torch.manual_seed(3)
    module = Both(merge, **options)
    x = NUMBERS.normal(size=(2, 4, 5)).astype(np.float32)
    config = {"direction": "bidirectional"}
    return conformance.check(module, "gru", weights=module.held(), inputs={"x": x}, config=config)


def test_a_users_two_directions_conform():
    case = both(lambda halves: torch.cat(halves, -1))
    assert (case.status, case.culprit) == ("conforms", None)


def test_two_directions_that_are_added_up_are_named():
    case = both(lambda halves: halves[0] + halves[1])
    assert (case.status, case.culprit) == ("diverges", "output")
    (finding,) = case.diagnosis
    assert (finding.convention, finding.value, finding.canonical) == ("rnn.bidirectional-merge", "sum", "concat")


def test_a_fault_of_one_direction_is_placed_there():
    case = both(lambda halves: torch.cat(halves, -1), fault=True)
    assert (case.status, case.culprit, list(case.diagnosis)) == ("diverges", "output", [])


def test_what_follows_a_sequences_end_is_not_read():
    """A user's module that packs its sequences, and one that does not look at their lengths."""

    class Packed(nn.Module):
        def __init__(self, packs):
            super().__init__()
            self.recurrent, self.packs = nn.GRU(5, 4, batch_first=True), packs

        def forward(self, x, lengths):
            if not self.packs:
                return self.recurrent(x)[0]
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)[0]

    inputs = {"x": NUMBERS.normal(size=(3, 4, 5)).astype(np.float32), "lengths": np.array([2, 4, 1])}
    verdicts = []
    for packs in (True, False):
        torch.manual_seed(3)
        module = Packed(packs)
        held = {"kernel": module.recurrent.weight_ih_l0.T, "recurrent_kernel": module.recurrent.weight_hh_l0.T}
        held |= {"bias": module.recurrent.bias_ih_l0, "recurrent_bias": module.recurrent.bias_hh_l0}
        weights = {n: w.detach().numpy() for n, w in held.items()}
        verdicts.append(conformance.check(module, "gru", weights=weights, inputs=inputs).status)
    assert verdicts == ["conforms", "diverges"]


def test_a_projection_is_narrower_than_its_cell():
    weights = {"kernel": NUMBERS.normal(size=(3, 16)), "recurrent_kernel": NUMBERS.normal(size=(2, 16))}
    weights["projection"] = NUMBERS.normal(size=(4, 2))
    config = {n: CONFIG[n] for n in ("layers", "direction", "activation", "recurrent_activation")}
    inputs = {"x": NUMBERS.normal(size=(2, 4, 3)), "initial_cell": NUMBERS.normal(size=(2, 4))}
    subject = Lstm(Request("lstm", "", {**config, "direction": "reverse"}, inputs, weights, "float64"))
    assert (subject.module.hidden_size, subject.module.proj_size) == (4, 2)
    assert subject().shape == (2, 4, 2)
    assert all(np.array_equal(a, weights[n]) for n, a in subject.weights().items())


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (nn.LSTM(5, 4, num_layers=2, dropout=0.5), "lstm"),
        (nn.LSTM(5, 4, num_layers=3, bidirectional=True, batch_first=True), "lstm"),
        (nn.LSTM(5, 4, num_layers=2, proj_size=3), "lstm"),
        (nn.GRU(5, 4, num_layers=2, bidirectional=True, bias=False), "gru"),
        (nn.RNN(5, 4, num_layers=2, nonlinearity="relu"), "simple_rnn"),
    ],
    ids=["lstm", "lstm in both directions", "lstm with projection", "gru in both directions", "rnn"],
)
def test_a_stack_of_torchs_own_is_known(module, layer):
    case = conformance.check(module, layer)
    assert (case.status, case.culprit) == ("conforms", None)
    assert case.steps[-1].name == f"l{module.num_layers - 1}.output"


def test_the_states_of_all_layers_are_read_off_a_call():
    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = nn.LSTM(5, 4, num_layers=2, bidirectional=True)

        def forward(self, x):
            states = torch.linspace(-1, 1, 48).reshape(4, 3, 4)
            return self.recurrent(x, (states, -states))[0]

    (case,) = conformance.check_model(Told(), inputs={"x": NUMBERS.normal(size=(2, 3, 5)).astype(np.float32)}).cases
    assert (case.layer, case.status) == ("lstm", "conforms")


class Rows(nn.Module):
    """A user's two layers in a row, with something between them."""

    def __init__(self, between=lambda x: x, **options):
        super().__init__()
        self.layers = nn.ModuleList([nn.GRU(5, 4, batch_first=True, **options)])
        self.layers.append(nn.GRU(8 if options else 4, 3, batch_first=True, **options))
        self.between = between

    def forward(self, x):
        return self.layers[1](self.between(self.layers[0](x)[0]))[0]


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}], ids=["forward", "in both directions"])
def test_the_weights_of_a_users_layers_are_told_by_their_numbers(options):
    torch.manual_seed(3)
    config = {"layers": 2} | ({"direction": "bidirectional"} if options else {})
    case = conformance.check(Rows(**options), "gru", config=config)
    assert (case.status, case.culprit) == ("conforms", None)
    assert len(case.steps) == (18 if options else 10)


def test_what_stands_between_two_layers_is_placed_in_the_second():
    torch.manual_seed(3)
    case = conformance.check(Rows(lambda x: x * 2), "gru", config={"layers": 2})
    assert (case.status, case.culprit) == ("diverges", "l1.reset_gate")


def test_torch_has_layers_of_one_width_and_no_stack_in_reverse():
    def asked(direction, *units):
        weights = {f"l{k}.recurrent_kernel": np.zeros((u, 3 * u)) for k, u in enumerate(units)}
        return Gru.refuses(Request("gru", "", {**CONFIG, "layers": 2, "direction": direction}, {}, weights, "float64"))

    assert asked("forward", 4, 4) is None
    assert asked("forward", 4, 3) == "its layers are of one width"
    assert asked("reverse", 4, 4) == "its layers of a stack run forward or in both directions, not in reverse"
