"""A state dict in a file: `.pt`, `.pth` or `.safetensors`. Nothing in it is ever run."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from conformance.archive import content, members
from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SUFFIXES = (".pt", ".pth")
_SIZED = b"\nbytearray\n"  # PyTorch lets a pickle make one, of as many bytes as it says
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # what a checkpoint calls the state dict in it


def state_in(path: Path) -> dict[str, Tensor]:
    """The tensors of the state dict in the file, by name.

    Of a checkpoint it is what lies in it as `state_dict`, `model_state_dict` or `model`. Raises ConformanceError where
    the file is broken, holds pickled code, or holds no state dict.
    """
    if path.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return dict(load(path.read_bytes()))
        except (SafetensorError, RuntimeError, ValueError) as error:
            raise ConformanceError(f"{path}: is not a whole safetensors file ({error}); write it again") from error
    return _tensors(path, _unpickled(path))


def _unpickled(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found = members(path, archive)
                sized = any(_SIZED in content(archive, m) for name, m in found.items() if name.endswith(".pkl"))
            held: Any = path
        else:
            whole = path.read_bytes()
            sized = _SIZED in whole
            held = io.BytesIO(whole)  # of a file, as many bytes are asked for as a pickle says a text has
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise ConformanceError(f"{path}: is truncated or corrupt ({error}); write it again") from error
    if sized:
        raise ConformanceError(
            f"{path}: it holds a bytearray, which may be of any size; save the state dict alone "
            "(torch.save(model.state_dict(), ...))"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(held, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile pickle raises
        said = str(error)
        if "Weights only load failed" in said and ("Unsupported" in said or "was not an allowed global" in said):
            raise ConformanceError(
                f"{path}: it holds pickled code, which is never run; save the state dict alone "
                "(torch.save(model.state_dict(), ...)) from a script that you trust"
            ) from error
        first = (said.strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, MemoryError) or "allocate memory" in said:
            first = "it declares a tensor for which there is no room"
        raise ConformanceError(
            f"{path}: not a state dict that PyTorch {torch.__version__} can read ({first[:200]}); write it again"
        ) from error


def _tensors(path: Path, found: Any) -> dict[str, Tensor]:
    waiting, seen = deque([found]), set[int]()
    while waiting:
        item = waiting.popleft()
        if not isinstance(item, Mapping) or id(item) in seen:
            continue
        seen.add(id(item))
        tensors = {n: t for n, t in item.items() if isinstance(n, str) and isinstance(t, torch.Tensor)}
        plain = {n: t.detach() for n, t in tensors.items() if t.layout is torch.strided}
        for name, tensor in plain.items():
            if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
                raise ConformanceError(
                    f"{path}: {name!r} is {list(tensor.shape)}, which its bytes do not hold; save a copy of it"
                )
        if plain:
            return plain
        waiting += [item[name] for name in _WRAPPERS if name in item]
    raise ConformanceError(f"{path}: holds no state dict: save one with torch.save(model.state_dict(), ...)")


def write_state(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a state dict to `path`."""
    made = io.BytesIO()  # of a file PyTorch would note the name: the same weights have the same bytes
    torch.save({n: tensor_of(a) for n, a in arrays.items()}, made)
    path.write_bytes(made.getvalue())


def tensor_of(array: NDArray[Any]) -> Tensor:
    """A tensor of the same values and dtype."""
    plain = np.array(array, order="C")
    if plain.dtype.name == "bfloat16":
        return torch.from_numpy(plain.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(plain)


def stored(tensor: Tensor) -> NDArray[Any]:
    """An array of the same values and dtype: `tensor_of` the other way."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        from conformance.precision import precision

        return plain.view(torch.uint16).numpy().view(precision("bfloat16").dtype)
    return plain.numpy()
