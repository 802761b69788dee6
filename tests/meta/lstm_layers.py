"""LSTMs in plain PyTorch, right and wrong."""

from __future__ import annotations

import torch
from clean import CleanCorpus
from other_layers import Config, Weights
from planted import Corpus
from problems import LSTM
from torch import Tensor

FAULTS = Corpus()
CLEAN = CleanCorpus()


class Lstm:
    """An LSTM unrolled by hand, gates i, f, g, o."""

    order = (0, 1, 2, 3)

    def __init__(self, w: Weights, c: Config) -> None:
        self.w = w
        self.backward = c.get("direction") == "reverse"

    def __call__(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(x.shape[0], 4, dtype=x.dtype)
        cell = torch.zeros_like(hidden)
        outputs = []
        times = range(x.shape[1])
        for t in reversed(times) if self.backward else times:
            parts = self.inner(x[:, t], hidden).chunk(4, dim=-1)
            i, f, g, o = (parts[n] for n in self.order)
            cell = self.gate(self.forget(f)) * cell + self.gate(i) * g.tanh()
            hidden = self.gate(o) * self.shown(cell)
            outputs.append(hidden)
        return torch.stack(outputs[::-1] if self.backward else outputs, dim=1)

    def inner(self, x: Tensor, hidden: Tensor) -> Tensor:
        return x @ self.w["kernel"] + hidden @ self.w["recurrent_kernel"] + self.w["bias"]

    def forget(self, inner: Tensor) -> Tensor:
        return inner

    def gate(self, inner: Tensor) -> Tensor:
        return torch.sigmoid(inner)

    def shown(self, cell: Tensor) -> Tensor:
        return cell.tanh()


CLEAN.add(LSTM)(Lstm)


@CLEAN.add(LSTM.with_config(direction="reverse"))
class LstmBackward(Lstm):
    pass


@CLEAN.add(LSTM)
class LstmWithOneProduct(Lstm):
    """Input and state side by side, one kernel for both."""

    def inner(self, x: Tensor, hidden: Tensor) -> Tensor:
        both = torch.cat([self.w["kernel"], self.w["recurrent_kernel"]])
        return torch.addmm(self.w["bias"], torch.cat([x, hidden], dim=-1), both)


@CLEAN.add(LSTM)
class LstmSigmoidByTanh(Lstm):
    def gate(self, inner: Tensor) -> Tensor:
        return 0.5 * torch.tanh(0.5 * inner) + 0.5


@CLEAN.add(LSTM)
class LstmOfTheFramework(Lstm):
    def __call__(self, x: Tensor) -> Tensor:
        state = (torch.zeros(1, 2, 4, dtype=x.dtype),) * 2
        weights = [self.w["kernel"].T.contiguous(), self.w["recurrent_kernel"].T.contiguous(), self.w["bias"]]
        weights.append(torch.zeros_like(self.w["bias"]))
        output: Tensor = torch.lstm(x, state, weights, True, 1, 0.0, False, False, True)[0]
        return output


@FAULTS.plant(LSTM, "input_gate", {"lstm.recurrent-activation": "hard_sigmoid"}, also=("forget_gate", "output_gate"))
class LstmHardSigmoid(Lstm):
    def gate(self, inner: Tensor) -> Tensor:
        return (0.2 * inner + 0.5).clamp(0, 1)


@FAULTS.plant(LSTM, "forget_gate", {"lstm.forget-bias": "1"})
class LstmForgetBias(Lstm):
    def forget(self, inner: Tensor) -> Tensor:
        return inner + 1


@FAULTS.plant(LSTM, "input_gate", {"lstm.bias": "doubled"}, also=("forget_gate", "cell_candidate", "output_gate"))
class LstmBiasDoubled(Lstm):
    def inner(self, x: Tensor, hidden: Tensor) -> Tensor:
        return super().inner(x, hidden) + self.w["bias"]


@FAULTS.plant(LSTM, "input_gate", also=None)
class LstmWithoutBias(Lstm):
    def inner(self, x: Tensor, hidden: Tensor) -> Tensor:
        return x @ self.w["kernel"] + hidden @ self.w["recurrent_kernel"]


@FAULTS.plant(LSTM, "cell_candidate", {"lstm.gate-order": "i,f,o,g"}, also=None)
class LstmGatesSwapped(Lstm):
    """i, f, o, g for i, f, g, o."""

    order = (0, 1, 3, 2)


@FAULTS.plant(LSTM, "hidden", also=None)
class LstmCellShownAsItIs(Lstm):
    def shown(self, cell: Tensor) -> Tensor:
        return cell


@FAULTS.plant(LSTM, "input_gate", also=None)
class LstmRecurrentKernelTwice(Lstm):
    def inner(self, x: Tensor, hidden: Tensor) -> Tensor:
        return super().inner(x, hidden) + hidden @ self.w["recurrent_kernel"]
