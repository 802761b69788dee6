"""What a parameter's name says of the weight that it holds: `attn.q_proj.weight` is a query's kernel.

A name speaks for a weight (`spoken_for`) where a word of it is one that people use for that weight.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[a-z]2[a-z](?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|\*")
_LAYER_OF_TORCH = re.compile(r"_l\d+(_reverse)?(?=$| )")  # bias_ih_l0_reverse
_BIAS = {"bias", "biases", "b", "beta", "shift"}
# What the names of a weight's kernel say, by the part of the layer that it belongs to.
_PARTS: Mapping[str, frozenset[str]] = {
    "query": frozenset({"query", "queries", "q", "wq", "bq"}),
    "key": frozenset({"key", "keys", "k", "wk", "bk"}),
    "value": frozenset({"value", "values", "v", "val", "wv", "bv"}),
    "output": frozenset({"out", "output", "o", "wo", "bo"}),
    "recurrent": frozenset({"hh", "recurrent", "hidden", "h2h", "u", "wh", "uh"}),
    "input": frozenset({"ih", "input", "x2h", "i2h", "wx", "w"}),
}
_WEAKLY: Mapping[str, frozenset[str]] = {"output": frozenset({"proj", "dense", "fc", "unify", "heads", "linear"})}
_PACKED = {"qkv", "kqv", "wqkv", "attn", "in"}  # c_attn, in_proj


@dataclass(frozen=True)
class Said:
    """A weight's part of the layer (`query`; empty where the layer has one) and whether it is a bias."""

    part: str
    bias: bool

    @classmethod
    def of(cls, weight: str) -> Said:
        """What a canonical name says: `query_kernel`, `recurrent_kernel`, `bias`, `scale`."""
        part, _, kind = weight.rpartition("_")
        return cls(part, kind == "bias")


@lru_cache(maxsize=4096)
def words(path: str) -> tuple[str, ...]:
    """The words of a parameter's path, in lower case: `selfAttn.W_q` is self, attn, w, q."""
    return tuple(w.lower() for w in _WORD.findall(path))


def is_bias(path: str) -> bool:
    """Whether the last words of a path say that it is a bias."""
    last = [w for w in words(_LAYER_OF_TORCH.sub("", path)) if not w.isdigit()][-2:]
    if not last:
        return False
    return last[-1] in _BIAS or last[0] in {"b", "bias"} or (last[-1][0] == "b" and len(last[-1]) == 2)


def spoken_for(path: str, weight: str) -> int:
    """How strongly a parameter's name speaks for a canonical weight: 2 where it says so, 1 where it may, 0 not at all,
    -1 where it speaks for another part."""
    said = Said.of(weight)
    if said.bias != is_bias(path):
        return -1
    told = set(words(path))
    if weight == "projection":  # few recurrent layers have one
        return 2 if told & {"projection", "proj", "hr"} else -1
    if not said.part:  # a recurrent layer's other kernel is the recurrent one
        return 0 if told & _PARTS["recurrent"] else 1
    others = set().union(*(w for p, w in _PARTS.items() if p != said.part and p != "input"))
    if told & _PARTS.get(said.part, frozenset({said.part})):
        return 2
    if told & others or told & _PACKED:
        return -1
    return 1 if told & _WEAKLY.get(said.part, frozenset()) else 0


def numbered(paths: Iterable[str], count: int) -> dict[str, int]:
    """Which of `count` layers each parameter is of, where its name says so: `rnn.weight_ih_l1` and `cells.1.kernel` are
    of the second, where there is one of another number beside it."""
    paths, made = list(paths), {}
    for path in paths:
        for found in re.finditer(r"\d+", path):
            alike = re.compile(rf"{re.escape(path[: found.start()])}(\d+){re.escape(path[found.end() :])}")
            numbers = sorted({int(match[1]) for other in paths if (match := alike.fullmatch(other))})
            if len(numbers) == count:
                made[path] = numbers.index(int(found[0]))
    return made


def is_reverse(path: str) -> bool:
    """Whether a name says that it is of the cell that begins at the last time step."""
    return bool(set(words(path)) & {"reverse", "reversed", "backward", "bw", "back"})


def packed(path: str) -> bool:
    """Whether a name says that query, key and value are packed in one parameter."""
    told = set(words(path))
    letters = told & {"q", "k", "v"}
    return bool(told & {"qkv", "kqv", "wqkv"}) or len(letters) == 3 or {"c", "attn"} <= told or {"in", "proj"} <= told


def input_first(path: str) -> bool:
    """Whether a kernel of this name is usually `in out`: what Keras and Flax call `kernel` is, torch's `weight` not."""
    return "weight" not in words(path)
