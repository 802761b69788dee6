"""Hostile state dicts: pickles that run code, rebuild what is no tensor, and claim sizes that nothing has."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_BUILDERS = (
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_sparse_tensor",
    "torch._utils _rebuild_qtensor",
    "torch._utils _rebuild_nested_tensor",
    "torch._utils _rebuild_meta_tensor_no_storage",
    "torch._utils _rebuild_wrapper_subclass",
    "torch._tensor _rebuild_from_type_v2",
    "torch.serialization _get_layout",
    "torch Size",
    "torch device",
    "builtins bytearray",
    "_codecs encode",
    "collections Counter",
    "collections OrderedDict",
)
_OTHERS = (
    "os system",
    "posix system",
    "builtins eval",
    "builtins getattr",
    "torch load",
    "torch.hub load",
    "torch.jit load",
    "torch.storage _load_from_bytes",
    "torch.nn.modules.linear Linear",
    "numpy.core.multiarray _reconstruct",
)
_SHAPES: tuple[dict[str, tuple[int, ...]], ...] = (
    {"l.weight_ih_l0": (12, 0), "l.weight_hh_l0": (12, 0)},
    {"l.weight_ih_l0": (3,)},
    {"l.weight_hh_l0": ()},
    {"a.in_proj_weight": (9,), "a.out_proj.weight": (3, 3)},
    {"a.in_proj_weight": (0, 0), "a.out_proj.weight": (0, 0)},
    {"n.running_mean": ()},
    {"n.weight": (), "n.bias": ()},
    {"n.weight": (0,), "n.bias": (0,)},
    {"c.weight": (0, 3, 2)},
    {"c.weight": (3, 3, 0, 0)},
    {"l.weight": (0, 0), "l.bias": (0,)},
)
_HUGE = (2**62, 2**40, 2**31, 2**28, -1)


def files(valid: Mapping[str, bytes], folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every one, with what it is."""
    from fuzzing.hostile import Runs, bomb, zipped

    members = _members(valid["plain.pt"])
    root = next(iter(members)).partition("/")[0]
    code = pickle.dumps(Runs(), 2)
    yield "code in an archive", zipped({**members, f"{root}/data.pkl": code})
    yield "code beside a tensor", _with(members, f"{root}/data.pkl", _beside(members[f"{root}/data.pkl"], code))
    yield "code in an old file", _old(valid["old.pt"], code)
    yield "code at the end", valid["old.pt"] + code
    yield "code in place of the magic number", code * 4
    yield "code as the keys of an old file", _keys(valid["old.pt"], code)
    for place in ("constants.pkl", "code/__torch__.py", "data/../../escaped", "version"):
        yield f"an archive with {place}", zipped({**members, f"{root}/{place}": code})
    for name in (*_BUILDERS, *_OTHERS):
        module, _, what = name.partition(" ")
        for arguments in ((), ("touch code-was-run",), (2**62,), (2**31,), (b"x" * 9, "rot13"), ([1] * 9, {})):
            body = _call(module, what, arguments)
            yield f"{name}{str(arguments)[:30]}", zipped({**members, f"{root}/data.pkl": body})
    for kind in ("FloatStorage", "UntypedStorage", "BFloat16Storage", "QInt8Storage", "Tensor", "nn", "os"):
        for count in (0, 6, *_HUGE):
            for sizes, strides, offset in (((2, 3), (3, 1), 0), ((2**31, 2**31), (1, 1), 0), ((2, 3), (0, 0), -1)):
                body = _tensor(kind, count, sizes, strides, offset)
                yield f"{kind} of {count} as {sizes} from {offset}", zipped({**members, f"{root}/data.pkl": body})
    for size in _HUGE:
        for shape in ((size,), (size, size), (size, 0), (1, size)):
            for strides in ((0,) * len(shape), (size,) * len(shape), (-1,) * len(shape)):
                body = _tensor("FloatStorage", 6, shape, strides, 0)
                yield f"{shape} by {strides}", zipped({**members, f"{root}/data.pkl": body})
    for opcode in (b"\x8e", b"\x8d", b"\x96"):  # eight-byte lengths of bytes, text and bytearray
        yield (
            f"length {opcode!r}",
            zipped({**members, f"{root}/data.pkl": b"\x80\x05" + opcode + b"\xff" * 7 + b"\x7f."}),
        )
    for opcode, width in ((b"r", "<I"), (b"j", "<I"), (b"\x8b", "<i")):  # the memo's far end, a number of two gigabytes
        body = b"\x80\x02]" + opcode + struct.pack(width, 2**31 - 1) + b"."
        yield f"opcode {opcode!r}", zipped({**members, f"{root}/data.pkl": body})
    yield (
        "lists in lists",
        zipped({**members, f"{root}/data.pkl": b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b"."}),
    )
    yield "itself", zipped({**members, f"{root}/data.pkl": b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s."})
    yield "a memory doubled over and over", zipped({**members, f"{root}/data.pkl": b"\x80\x02]" + b"2\x86" * 60 + b"."})
    yield "a bomb", bomb(f"{root}/data.pkl", b"\x80\x02")
    for name in list(members):
        yield f"without {name}", zipped({n: b for n, b in members.items() if n != name})
        yield f"{name} empty", zipped({**members, name: b""})
        yield f"{name} twice", zipped([*members.items(), (name, members[name])])
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        yield f"packed by {method}", zipped(members, method)
    for name in ("\x1b[31m", "a\nb", "", ".", "..", "x" * 5000, "weight", "in_proj_weight", "weight_ih_l0", "\ud800"):
        state = {name: [1.0]}
        yield f"a state of {name[:12]!r}", pickle.dumps(state, 2)
        yield f"a tensor named {name[:12]!r}", _saved({f"{name}.weight": (3, 2), name: (3,)})
    yield "many tensors", _saved({f"l{i}.weight": (1, 1) for i in range(3000)})
    for shapes in _SHAPES:
        yield f"shapes {shapes}", _saved(shapes)


def _saved(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    import torch

    made = io.BytesIO()
    torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, made)
    return made.getvalue()


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _with(members: Mapping[str, bytes], name: str, body: bytes) -> bytes:
    from fuzzing.hostile import zipped

    return zipped({**members, name: body})


def _beside(pickled: bytes, code: bytes) -> bytes:
    """A pickle that runs `code`, drops what it gives, and goes on as `pickled`."""
    return code[:-1] + b"0" + pickled[2:]


def _old(content: bytes, code: bytes) -> bytes:
    """A file of before archives: three pickles, and then the state dict, which is `code` here."""
    stream = io.BytesIO(content)
    for _ in range(3):
        pickle.load(stream)  # of our own making: a number, a version, sizes
    return content[: stream.tell()] + code


def _keys(content: bytes, code: bytes) -> bytes:
    stream = io.BytesIO(content)
    for _ in range(3):
        pickle.load(stream)
    return content[: stream.tell()] + pickle.dumps({}, 2) + code


def _call(module: str, name: str, arguments: tuple[Any, ...]) -> bytes:
    """A pickle that calls the function of that name."""
    packed = pickle.dumps(arguments, 2)[2:-1]
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + packed + b"R."


def _tensor(kind: str, count: int, sizes: tuple[int, ...], strides: tuple[int, ...], offset: int) -> bytes:
    """The pickle of a state dict with one tensor, of a storage of `count` elements."""
    out = b"\x80\x02}X\x06\x00\x00\x00weightctorch._utils\n_rebuild_tensor_v2\n("
    out += b"(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    out += pickle.dumps(count, 2)[2:-1] + b"tQ"
    out += b"".join(pickle.dumps(item, 2)[2:-1] for item in (offset, sizes, strides, False))
    return out + b"ccollections\nOrderedDict\n)RtRs."
