"""The axes of MATLAB's data: channels before batch and time, as the format of a dlarray has them in letters.

S is space, C channels, B batch, T time. A recording may say its own in text that is called `Format` (`SCB`); else
`C T` and `C B T` are sequences, `C B` features, `S S C B` images and `S S S C B` volumes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

INPUT = "X"
FORMAT = "Format"
_RANKS = {"2d": 4, "3d": 5}  # of the canonical input, where the layer's name tells
_OF_CHANNELS = ("Scale", "Offset", "TrainedMean", "TrainedVariance")


def times(sizes: Iterable[Any]) -> str:
    """`48x10`, or `hdim x 10` where a size is only known by name."""
    words = [str(size) for size in sizes]
    return ("x" if all(word.isdigit() for word in words) else " x ").join(words)


def require_format(letters: str) -> None:
    """Raise ConformanceError where `letters` are no format of a dlarray."""
    once = letters.replace("S", "")
    if "C" not in once or len(set(once)) != len(once) or set(once) - set("CBT"):
        raise ConformanceError(f"{letters!r} is no {FORMAT}: it has C and may have S, B and T, each but S once")


def in_format(array: NDArray[Any], letters: str) -> NDArray[Any]:
    """An array whose axes are `letters`, in the canonical order: batch, space, time, channels.

    Trailing axes of length 1 that MATLAB dropped are put back, and a batch of one where there is none. Raises
    ConformanceError where the axes cannot be these.
    """
    require_format(letters)
    if array.ndim > len(letters):
        raise ConformanceError(f"an array of {times(array.shape)} has not the axes {' '.join(letters)}")
    whole = array.reshape((*array.shape, *(1,) * (len(letters) - array.ndim)))
    made = np.transpose(whole, [at for letter in "BSTC" for at, other in enumerate(letters) if other == letter])
    return np.ascontiguousarray(made if "B" in letters else made[None])


def rank_of(layer: str, axes: str, arrays: Mapping[str, NDArray[Any]], letters: str | None) -> int:
    """How many axes the canonical input of `layer` has, which the definition calls `axes`, for the recorded one.

    Raises ConformanceError where that may be as well one image as a batch of sequences.
    """
    x = arrays[INPUT]
    if letters is not None:
        require_format(letters)
        return letters.count("S") + letters.count("T") + 2
    if axes != "batch *space channel":
        return len(axes.split()) if "*" not in axes and "..." not in axes else x.ndim
    if x.ndim != 3:
        return max(x.ndim, 3)
    channels = next((arrays[n].size for n in _OF_CHANNELS if n in arrays), None)
    may_be = [rank for rank, at in ((3, 0), (4, 2)) if channels in (None, x.shape[at])]
    if len(may_be) != 1:
        raise ConformanceError(
            f"{INPUT} of {times(x.shape)} may be `channel batch time` or an image `height width channel`: "
            f"record which as text, {FORMAT} = 'CBT' or {FORMAT} = 'SSC'"
        )
    return may_be[0]


def channels_of(layer: str, axes: str, arrays: Mapping[str, NDArray[Any]], letters: str | None) -> int:
    """How many channels the recorded input has. Raises ConformanceError as `rank_of`."""
    x, rank = arrays[INPUT], rank_of(layer, axes, arrays, letters)
    at = letters.index("C") if letters is not None else rank - 2 if rank > 3 else 0
    return x.shape[at] if at < x.ndim else 1


def to_canonical(
    array: NDArray[Any], layer: str, like: tuple[int, ...], letters: str | None = None, *, output: bool = False
) -> NDArray[Any]:
    """An input, or the output, of MATLAB's in the canonical axes; `like` is the canonical input's shape.

    `channel time` and `channel batch time` become `batch time channel`, `channel batch` becomes `batch channel`,
    `height width channel batch` becomes `batch height width channel`; or as `letters` say. Indices count from 1 in
    MATLAB, and a pool over all of space leaves its axes there. Raises ConformanceError where the axes cannot be those.
    """
    if not array.size:
        raise ConformanceError(f"an array of {times(array.shape)} holds nothing")
    if layer == "embedding":
        whole = to_canonical(array, "", (*like, 1), letters)
        return whole if output else whole[..., 0] - 1
    rank = _RANKS.get(layer[-2:], len(like))
    if output and layer.startswith("global_"):
        made = in_format(array, letters or ("S" * (rank - 2) + "CB" if rank >= 4 and array.ndim > 2 else "CB"))
        return made.reshape(made.shape[0], made.shape[-1])
    if letters is None:
        letters = _usual(array, rank, like)
    made = in_format(array, letters)
    return made[:, None, :] if made.ndim == 2 and rank == 3 else made


def _usual(array: NDArray[Any], rank: int, like: tuple[int, ...]) -> str:
    """The format that an array has where nothing says it."""
    if rank >= 4 and array.ndim <= rank:
        return "S" * (rank - 2) + "CB"
    if rank == 2 and array.ndim == 2:
        return "CB"
    if rank == 3 and array.ndim == 2:  # one sample; or one time step, whose axis MATLAB dropped
        return "CT" if like[0] == 1 else "CB"
    if rank == 3 and array.ndim == 3:
        return "CBT"
    raise ConformanceError(f"an array of {times(array.shape)} does not fit a canonical input of {times(like)}")
