"""Files that are hostile by design: cut off everywhere, bombs, ways out of a folder, code, sizes that nothing has."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from fuzzing import hostile_keras, hostile_onnx, hostile_pt2, hostile_state
from fuzzing.child import MARK

GIGABYTE = 2**30
Files = Iterator[tuple[str, bytes]]


class Runs:
    """A pickle of it runs a command where it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch code-was-run",)


def plant(folder: Path) -> None:
    """The secret, where a file may try to lead: beside the input, above it, and at the end of a link."""
    import h5py

    with h5py.File(folder / "input" / "secret.h5", "w") as file:
        file["x"] = np.full(64, MARK)
    np.savez(folder / "secret.npz", **{"inputs.x": np.full(4, MARK)})
    (folder / "secret.bin").write_bytes(np.full(512, MARK, "<f4").tobytes())
    (folder / "input" / "link.bin").symlink_to(folder / "secret.bin")


def files(reader: str, valid: Mapping[str, bytes], folder: Path) -> Files:
    """Every hostile file for `reader`, with a name that says what it is."""
    if reader == "saved":  # the archive around it is ours, and never wrong
        return
    yield "empty", b""
    yield "zeros", bytes(4096)
    yield "text", b"#!/bin/sh\ntouch escaped\n"
    yield "brackets", b"[" * 100_000
    yield "a pickle", pickle.dumps(Runs())
    for name, content in valid.items():
        step = max(1, len(content) // 40)
        for length in sorted({*range(0, len(content), step), *range(0, min(len(content), 24)), len(content) - 1}):
            yield f"{name} cut at {length}", content[:length]
        yield f"{name} and more", content + b"\0" * 999
    yield from MADE.get(reader, lambda valid, folder: iter(()))(valid, folder)


@cache
def _block() -> bytes:
    """16 MiB of zeros, deflated so that it can be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)


def zeros(head: bytes) -> bytes:
    """`head` and a gigabyte of zeros, deflated: the body of a bomb, a thousandth of that."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + _block() * (GIGABYTE // 2**24) + b"\x03\x00"


def _checksum(function: Callable[[bytes, int], int], head: bytes) -> int:
    value, block = function(head, function(b"", 0) if function is zlib.crc32 else 1), bytes(2**24)
    for _ in range(GIGABYTE // len(block)):
        value = function(block, value)
    return value


def bomb(name: str, head: bytes = b"") -> bytes:
    """A zip archive whose one member is `head` and a gigabyte of zeros."""
    packed = zeros(head)
    sizes = struct.pack("<III", _checksum(zlib.crc32, head), len(packed), GIGABYTE + len(head))
    sizes += struct.pack("<HH", len(name), 0)
    local = b"PK\3\4" + struct.pack("<HHHHH", 20, 0, 8, 0, 33) + sizes + name.encode() + packed
    central = b"PK\1\2" + struct.pack("<HHHHHH", 20, 20, 0, 8, 0, 33) + sizes + bytes(14) + name.encode()
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def zipped(members: Mapping[str, bytes] | list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", method) as new:
        warnings.simplefilter("ignore")
        for name, body in members.items() if isinstance(members, Mapping) else members:
            new.writestr(zipfile.ZipInfo(name), body, method)
    return made.getvalue()


def _npy(shape: str, dtype: str = "<f8", body: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + body


def _npz(valid: Mapping[str, bytes], folder: Path) -> Files:
    yield "bomb", bomb("x.npy", _npy(f"{GIGABYTE // 8},"))
    yield "bomb in bytes", bomb("x.npy", _npy(f"{GIGABYTE},", "|u1"))
    yield "bomb that is no array", bomb("x.npy")
    for shape in ("4611686018427387904,", "2147483648, 2147483648", "4294967296, 4294967296, 0", "-1,", "0," * 40):
        yield f"shape {shape}", zipped({"x.npy": _npy(shape)})
    yield "pickle", zipped({"x.npy": _npy("1,", "|O", pickle.dumps(Runs()))})
    for name in ("../escaped.npy", "/escaped.npy", "a/../../escaped.npy", "", ".npy", "\x1b[31m.npy"):
        yield f"member {name!r}", zipped({name: _npy("2,", "<f8", bytes(16))})
    yield "twice", zipped([("x.npy", _npy("2,", "<f8", bytes(16)))] * 2)
    yield "many", zipped({f"{i}.npy": _npy("0,") for i in range(25_000)})
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"method {method}", zipped({"x.npy": _npy("262144,", "<f8", bytes(2**21))}, method)
    yield "a header of 64 KiB", zipped({"x.npy": _npy("1," * 20000)})
    yield "a header that is no end", zipped({"x.npy": b"\x93NUMPY\2\0" + b"\xff" * 4 + b"x"})
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, "
    yield "a header that does not close", zipped({"x.npy": b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header})


def _element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def _variable(kind: int, dims: tuple[int, ...], body: bytes, name: bytes = b"x", declared: int | None = None) -> bytes:
    head = _element(6, struct.pack("<II", kind, 0)) + _element(5, struct.pack(f"<{len(dims)}i", *dims))
    whole = head + _element(1, name) + body
    return struct.pack("<II", 14, len(whole) if declared is None else len(whole) + declared) + whole


MAT = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def _packed(head: bytes) -> bytes:
    body = b"\x78\x9c" + zeros(head) + struct.pack(">I", _checksum(zlib.adler32, head))
    return MAT + struct.pack("<II", 15, len(body)) + body


def _mat5(valid: Mapping[str, bytes], folder: Path) -> Files:
    number = struct.pack("<II", 9, GIGABYTE)
    yield "bomb of numbers", _packed(_variable(6, (GIGABYTE // 8, 1), number, declared=GIGABYTE))
    small = struct.pack("<II", 2, GIGABYTE)
    yield "bomb of bytes that are doubles", _packed(_variable(6, (GIGABYTE, 1), small, declared=GIGABYTE))
    # An empty cell is a tag of type 14 and size 0; zeros are no such tags, so the members repeat inside one another.
    yield "bomb of cells", _packed(_variable(1, (GIGABYTE // 8, 1), b"", declared=GIGABYTE))
    empty = struct.pack("<II", 14, 0)
    for count in (10**5, 3 * 10**6):
        body = zlib.compress(_variable(1, (count, 1), empty * count), 9)
        yield f"{count} empty cells", MAT + struct.pack("<II", 15, len(body)) + body
    deep = empty
    for _ in range(3000):
        deep = _variable(1, (1, 1), deep, b"")
    yield "cells in cells", MAT + deep
    for dims in ((2**30, 2**30), (-1, 3), (2**31 - 1,) * 32, (0, 2**31 - 1, 2**31 - 1)):
        yield f"dims {dims[:3]}", MAT + _variable(6, dims, _element(9, bytes(16)))
    for name in (b"", b"\x1b[31m", b"a\nb", b"../escaped", b"n" * 100_000, b"\0x"):
        yield f"name {name[:9]!r}", MAT + _variable(6, (1, 2), _element(9, bytes(16)), name)
        yield f"name {name[:9]!r} of a wrong one", MAT + _variable(6, (1, 3), _element(9, bytes(16)), name)
    long = _variable(1, (200, 1), _variable(6, (1, 1), _element(9, bytes(8)), b"") * 200, b"n" * 2_000_000)
    yield "a long name many times", MAT + long


def _hdf5(valid: Mapping[str, bytes], folder: Path) -> Files:
    from random import Random

    from fuzzing import hdf5, mutations

    for content in valid.values():
        for change in hdf5.CHANGES:
            for seed in range(12 // len(valid)):
                made = _changed(content, change, Random(seed))
                if made is not None:
                    yield f"{change.__name__.strip('_')} {seed}", mutations.trusted(made)


def _changed(content: bytes, change: Callable[..., None], random: object) -> bytes | None:
    import h5py

    from fuzzing.hdf5 import named

    held = io.BytesIO(content)
    try:
        with h5py.File(held, "r+") as file:
            change(random, file, random.choice(named(file)))  # type: ignore[attr-defined]
    except (ValueError, KeyError, RuntimeError, TypeError, OSError):  # of a change that does not go there
        return None
    return held.getvalue()


def _safetensors(valid: Mapping[str, bytes], folder: Path) -> Files:
    def made(header: str, body: bytes = bytes(16), length: int | None = None) -> bytes:
        said = header.encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(said) if length is None else length) + said + body

    one = '{"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%s]}}'
    for shape in (str(2**62), f"{2**32},{2**32}", f"{2**32},{2**32},0", "-1", "1e3", "2" + ",1" * 99):
        yield f"shape {shape[:30]}", made(one % ("x", "F64", shape, "0,16"))
        yield f"shape {shape[:30]}, empty", made(one % ("x", "F64", shape, "0,0"), b"")
    for offsets in ("0,8", "8,16", "16,0", f"0,{2**63}", "-1,15"):
        yield f"offsets {offsets}", made(one % ("x", "F64", "2", offsets))
    for length in (2**63, 2**64 - 1, 2**40, 0, 1):
        yield f"length {length}", made(one % ("x", "F64", "2", "0,16"), length=length)
    for dtype in ("F8_E4M3", "F4", "C64", "O", "F6_E2M3", "BF16", "F8_E8M0"):
        yield f"dtype {dtype}", made(one % ("x", dtype, "8", "0,8"), bytes(8))
        yield f"dtype {dtype} of sixteen", made(one % ("x", dtype, "16", "0,16"))
    for name in ("\\u001b[31m", "../escaped", "", "\\ud800", "__metadata__"):
        yield f"name {name}", made(one % (name, "F64", "2", "0,16"))
        yield f"name {name} of a wrong one", made(one % (name, "F4", "8", "0,4"), bytes(4))
    yield "deep", made('{"x":' * 5000)
    yield (
        "overlap",
        made(
            '{"x":{"dtype":"F64","shape":[2],"data_offsets":[0,16]},"y":{"dtype":"F64","shape":[2],"data_offsets":[0,16]}}'
        ),
    )


def _exported(valid: Mapping[str, bytes], folder: Path) -> Files:
    def made(content: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        said = json.loads(header["__metadata__"]["conformance"])
        for layer in said["layers"]:
            change(layer)
        header["__metadata__"]["conformance"] = json.dumps(said)
        packed = json.dumps(header).encode()
        return struct.pack("<Q", len(packed)) + packed + content[8 + length :]

    for name, content in valid.items():
        for size in (0, -1, 2**20, 2**31, 2**40, 2**62):
            for most in (2, 9):
                sized = {f"w{i}": [size] * most for i in range(3)}
                yield f"{name} of {size}", made(content, lambda layer, s=sized: layer.update(weights=s))

                def grown(layer: dict[str, object], size: int = size) -> None:
                    weights: dict[str, list[int]] = layer["weights"]  # type: ignore[assignment]
                    layer["weights"] = {n: [size for _ in shape] for n, shape in weights.items()}

                yield f"{name} whose weights are of {size}", made(content, grown)
            for key in ("heads", "groups", "kv_heads", "axes", "window", "strides"):
                config = {key: size}
                yield f"{name} with {key}={size}", made(content, lambda layer, c=config: layer.update(config=c))
        for subject in ("os.system", "../x", "", "torch.nn.LSTM", "keras.layers.Lambda", "\x1b[31m"):
            yield f"{name} of {subject}", made(content, lambda layer, s=subject: layer.update(subject=s))
        for layer_name in ("softmax", "resize", "gelu", "embedding", "attention", "transformer_encoder_layer"):
            yield f"{name} as {layer_name}", made(content, lambda layer, n=layer_name: layer.update(layer=n))
        for dtype in ("float64", "bfloat16", "float16", "int8", "object", "V0"):
            yield f"{name} of {dtype}", made(content, lambda layer, d=dtype: layer.update(dtype=d))
            kept = {"dtype": dtype, "shape": [2**40], "data": "AAAA"}
            origin = {"layout": "torch", "names": {"weight": "weight"}, "kept": {"weight": kept}}
            yield f"{name} that kept {dtype}", made(content, lambda layer, o=origin: layer.update(origin=o))
        yield f"{name} of nothing", made(content, lambda layer: layer.clear())


def _manifest(valid: Mapping[str, bytes], folder: Path) -> Files:
    head = 'layer = "softmax"\nsummary = "s"\nsource = "s"\n[[form]]\nname = "a"\n'
    inputs = folder / "input"
    for arrays in (
        "../secret.npz",
        f"{folder}/secret.npz",
        "fixture.toml",
        "",
        ".",
        "\\u0000",
        "x/../../secret.npz",
        "/dev/zero",
        "\\u001b[31m.npz",
    ):
        yield f"arrays {arrays}", f'{head}arrays = "{arrays}"\n'.encode()
    yield from ((n, c.encode()) for n, c in _toml(head))
    for field in ("config", "subject", "name", "summary", "dtypes"):
        for value in ("1", '"x"', "[]", "[1]", "{}", "[{}]", "1979-05-27", "nan", "{subject = 1, adapter = 2}"):
            yield (
                f"{field} = {value}",
                f'{head}{field}x = 1\narrays = "a.npz"\n'.replace(f"{field}x = 1", f"{field} = {value}")
                .replace('name = "a"\nname', "name")
                .encode(),
            )
    assert inputs.is_dir()


def _toml(head: str) -> Iterator[tuple[str, str]]:
    yield "deep list", head + "x = " + "[" * 50_000
    yield "deep table", head + "x = " + "{a=" * 50_000
    yield "deep name", head + "a." * 50_000 + "b = 1"
    yield "many digits", head + "x = " + "9" * 10_000
    yield "a date that is none", head + "x = 0000-00-00"
    yield "surrogate", head + 'x = "\\ud800"'
    yield "a zone that is none", head + "x = 1979-05-27T00:00:00+99:99"
    yield "control characters", head + 'x = "\x1b[31m'
    yield "a long line", head + "x = '" + "y" * 10**6


def _divergences(valid: Mapping[str, bytes], folder: Path) -> Files:
    head = '[[divergence]]\nfixtures = ["a"]\nstep = "s"\nreason = "r"\nlink = "l"\n'
    yield from ((n, c.encode()) for n, c in _toml(head))
    for line in ('versions = {a = "=="}', 'versions = {a = "===9999999999999999999999999999"}', "versions = {a = 1}"):
        yield line, f"{head}{line}\n".encode()
    yield "a range of 10 MB", f'{head}versions = {{a = ">=1{",>=1" * 10**6}"}}\n'.encode()
    yield "a version of many digits", f'{head}versions = {{a = ">={"9" * 10_000}"}}\n'.encode()


def _policy(valid: Mapping[str, bytes], folder: Path) -> Files:
    head = '[[rule]]\nverdict = "fail"\n'
    yield from ((n, c.encode()) for n, c in _toml(head))
    for line in (
        f'change = "{"*" * 3000}"',
        'change = "[!"',
        "above = nan",
        "above = 9e999",
        "change = 3",
        'layer = ["\\u0000"]',
    ):
        yield line[:40], f"{head}{line}\n".encode()


def _result(valid: Mapping[str, bytes], folder: Path) -> Files:
    (content,) = valid.values()
    yield "deep", b'{"schema":1,"cases":' + b"[" * 10**6
    yield "deep within", content.replace(b'"message":null', b'"message":' + b"[" * 10**5, 1)
    for old, new in (
        (b'"schema":1', b'"schema":1e999'),
        (b'"schema":1', b'"schema":' + b"9" * 10_000),
        (b'"softmax"', b'"\\u001b]0;x\\u0007"'),
        (b'"softmax"', b'"\\ud800"'),
        (b'"softmax"', b'"</script><script>alert(1)</script>"'),
        (b'"ratio":', b'"ratio":1e999,"ratio":'),
        (b'"axes":', b'"axes":"' + b"a " * 10**5 + b'","axes":'),
        (b'"max_abs":', b'"max_abs":' + b"9" * 400 + b',"max_abs":'),
    ):
        yield f"{old!r} as {new[:30]!r}", content.replace(old, new)
        yield f"{old!r} as {new[:30]!r} once", content.replace(old, new, 1)


MADE: dict[str, Callable[[Mapping[str, bytes], Path], Files]] = {
    "mat5": _mat5,
    "mat73": _hdf5,
    "weights-h5": _hdf5,
    "legacy-h5": hostile_keras.legacy,
    "safetensors": _safetensors,
    "npz": _npz,
    "fixture": _manifest,
    "divergences": _divergences,
    "policy": _policy,
    "result": _result,
    "onnx": hostile_onnx.files,
    "keras": hostile_keras.files,
    "pt2": hostile_pt2.files,
    "state": hostile_state.files,
    "exported": _exported,
}
