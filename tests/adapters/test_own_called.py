"""PyTorch's modules, called without a batch, on a single number, and with padding in an encoder."""

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402  # after the skip

import conformance  # noqa: E402


class Called(nn.Module):
    """A module that is called with these arguments, whatever they are."""

    def __init__(self, module, *args, **kwargs):
        super().__init__()
        self.module, self.args, self.kwargs = module, args, kwargs

    def forward(self):
        return self.module(*self.args, **self.kwargs)


@pytest.mark.parametrize("batch_first", [False, True])
def test_attention_without_a_batch_axis(batch_first):
    torch.manual_seed(0)
    query, memory = torch.randn(3, 12), torch.randn(5, 12)
    padding = torch.tensor([False, False, True, False, True])
    causal = torch.tensor([[False, True, True, True, True]] + [[False, False, False, True, True]] * 2)
    module = nn.MultiheadAttention(12, 3, batch_first=batch_first)
    [case] = conformance.check_model(
        Called(module, query, memory, memory, key_padding_mask=padding, attn_mask=causal), inputs={}
    ).cases
    assert (case.layer, case.status) == ("multi_head_attention", "conforms")
    assert {s.name: s.status for s in case.steps}["weights"] == "conforms"


def test_layers_of_an_encoder_that_is_given_padding():
    """PyTorch calls them with nested tensors, which have no shapes, where it is left to itself."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(12, 4, 20, batch_first=True)
    run = conformance.check_model(
        nn.TransformerEncoder(layer, 2),
        inputs={
            "src": torch.randn(2, 5, 12),
            "src_key_padding_mask": torch.tensor([[False] * 5, [False] * 3 + [True] * 2]),
        },
    )
    assert run.summary == {"conforms": 2}


def test_a_single_number():
    [case] = conformance.check_model(Called(nn.PReLU(), torch.tensor(-2.0)), inputs={}).cases
    assert case.status == "conforms"
