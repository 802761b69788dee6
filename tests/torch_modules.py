"""Attention and other layers as people write them in PyTorch, with the parameter names that they use."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def split(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
    return torch.softmax(scores, -1) @ value


class Named(nn.Module):
    """Four linear layers under `names`, for query, key, value and output."""

    def __init__(self, names: tuple[str, str, str, str], heads: int = 3, width: int = 12, bias: bool = True) -> None:
        super().__init__()
        self.names, self.heads = names, heads
        for name in names:
            setattr(self, name, nn.Linear(width, width, bias=bias))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        query, key, value, output = (getattr(self, n) for n in self.names)
        context = attend(*(split(layer(x), self.heads) for layer in (query, key, value)), mask)
        return output(context.transpose(1, 2).flatten(2))


class Fused(nn.Module):
    """One linear layer for query, key and value, as GPT-2 has it."""

    def __init__(self, name: str = "c_attn", out: str = "c_proj", heads: int = 3, width: int = 12) -> None:
        super().__init__()
        self.names, self.heads = (name, out), heads
        setattr(self, name, nn.Linear(width, 3 * width))
        setattr(self, out, nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        packed, output = (getattr(self, n) for n in self.names)
        context = attend(*(split(part, self.heads) for part in packed(x).chunk(3, -1)))
        return output(context.transpose(1, 2).flatten(2))


class Matrices(nn.Module):
    """Bare parameters, `in out`, square: whether they are transposed shows in their use alone."""

    def __init__(self, transposed: bool, width: int = 12) -> None:
        super().__init__()
        self.transposed = transposed
        for name in ("Wq", "Wk", "Wv"):
            setattr(self, name, nn.Parameter(torch.randn(width, width) / width**0.5))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (x @ (w.T if self.transposed else w) for w in (self.Wq, self.Wk, self.Wv))
        return attend(query[:, None], key[:, None], value[:, None])[:, 0]


class PerHead(nn.Module):
    """A list of heads, each with three small linear layers, as character-level tutorials have it."""

    def __init__(self, heads: int = 3, width: int = 12) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.ModuleDict({n: nn.Linear(width, width // heads, bias=False) for n in ("key", "query", "value")})
            for _ in range(heads)
        )
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        made = [attend(h["query"](x)[:, None], h["key"](x)[:, None], h["value"](x)[:, None])[:, 0] for h in self.heads]
        return self.proj(torch.cat(made, -1))


class Listed(nn.Module):
    """The four layers of a list: their names say nothing."""

    def __init__(self, heads: int = 3, width: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        context = attend(*(split(layer(x), self.heads) for layer in self.layers[:3]))
        return self.layers[3](context.transpose(1, 2).flatten(2))


class Cross(nn.Module):
    """Attention to another sequence, called as (q, k, v, mask)."""

    def __init__(self, width: int = 12, other: int = 10) -> None:
        super().__init__()
        self.fc_q, self.fc_k, self.fc_v = nn.Linear(width, 12), nn.Linear(other, 12), nn.Linear(other, 12)
        self.fc_o = nn.Linear(12, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        context = attend(split(self.fc_q(q), 3), split(self.fc_k(k), 3), split(self.fc_v(v), 3), mask)
        return self.fc_o(context.transpose(1, 2).flatten(2))


class Cell(nn.Module):
    """A hand-written LSTM over time, with a linear layer for the input and one for the state."""

    def __init__(self, channel: int = 5, unit: int = 4) -> None:
        super().__init__()
        self.unit = unit
        self.x2h, self.h2h = nn.Linear(channel, 4 * unit), nn.Linear(unit, 4 * unit)

    def forward(self, x: Tensor) -> Tensor:
        hidden = cell = x.new_zeros(len(x), self.unit)
        made = []
        for now in x.unbind(1):
            i, f, g, o = (self.x2h(now) + self.h2h(hidden)).chunk(4, -1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
            made.append(hidden)
        return torch.stack(made, 1)


class Norm(nn.Module):
    """A layer norm of one's own."""

    def __init__(self, width: int = 12, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(width) + 0.5), nn.Parameter(torch.randn(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdim=True)
        variance = ((x - mean) ** 2).mean(-1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + self.epsilon) * self.gamma + self.beta


# -- the published walk-throughs, as their authors wrote them -------------------------------------------


class SingleHead(nn.Module):
    """One head that does not scale."""

    def __init__(self, d_model: int = 100, d_head: int = 80) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(d_model, d_head) for _ in range(3))
        self.output = nn.Linear(d_head, d_model)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        return self.output(torch.softmax(scores, -1) @ self.value(x))


class PaddedMultiHead(nn.Module):
    """Not scaled, masked scores filled with -1e-25, and the mask on the queries."""

    def __init__(self, d_model: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (split(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        scores = (query @ key.transpose(-1, -2)).masked_fill(~mask[:, None].unsqueeze(-1), -1e-25)
        return self.output((torch.softmax(scores, -1) @ value).transpose(1, 2).flatten(2))
