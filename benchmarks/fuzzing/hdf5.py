"""One item of an HDF5 file changed through the library: links, cycles, sizes, filters, types, attributes."""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Callable
from random import Random
from typing import Any

import h5py
import numpy as np

SECRET = "secret.h5"  # beside the input: what nobody may read


def changed(random: Random, content: bytes) -> bytes:
    """The file with one item added, replaced or described otherwise."""
    block = content.index(b"\x89HDF\r\n\x1a\n")
    held = io.BytesIO(content)
    with h5py.File(held, "r+", **({"userblock_size": block} if block else {})) as file:
        random.choice(CHANGES)(random, file, random.choice(named(file)))
    return held.getvalue()


def reworded(random: Random, content: bytes, change: Callable[[Any], Any]) -> bytes:
    """The file with its model's config changed, or with names that lead elsewhere in the list of one group."""
    held = io.BytesIO(content)
    with h5py.File(held, "r+") as file:
        if "model_config" in file.attrs and random.random() < 0.7:
            file.attrs["model_config"] = json.dumps(change(json.loads(file.attrs["model_config"])))
        else:
            groups = [file, *(file[n] for n in named(file) if isinstance(file[n], h5py.Group))]
            lists = [(g, n) for g in groups for n in g.attrs if n in ("layer_names", "weight_names")]
            group, name = random.choice(lists)
            names = [n if isinstance(n, str) else n.decode() for n in np.asarray(group.attrs[name]).tolist()]
            wrong = [
                "",
                "/",
                "..",
                "x/../y",
                "\x1b[31m",
                "cell/recurrent_kernel:0",
                "query/kernel:0",
                "a" * 3000,
                *names,
            ]
            names[random.randrange(len(names) + 1) : random.randrange(len(names) + 1)] = random.choices(wrong, k=2)
            group.attrs[name] = random.choice((names, "x", 3.0, names * 50))
    return held.getvalue()


def named(file: Any) -> list[str]:
    """The paths of everything that is in a file."""
    names: list[str] = []
    file.visit(names.append)
    return names


def _replaced(file: Any, name: str) -> tuple[Any, str, dict[str, Any]]:
    parent, key = posixpath.split(name)
    group = file[parent] if parent else file
    attributes = dict(group[key].attrs) if group.get(key, getlink=True).__class__.__name__ == "HardLink" else {}
    del group[key]
    return group, key, attributes


def _link(random: Random, file: Any, name: str) -> None:
    group, key, _ = _replaced(file, name)
    group[key] = random.choice(
        (
            h5py.ExternalLink(SECRET, "/x"),
            h5py.SoftLink("/"),
            h5py.SoftLink("/nowhere"),
            h5py.SoftLink(f"/{name}"),
            group,
            file,
        )
    )


def _elsewhere(random: Random, file: Any, name: str) -> None:
    group, key, attributes = _replaced(file, name)
    if random.random() < 0.5:
        made = group.create_dataset(key, (4,), "f8", external=[(SECRET, 0, 32)])
    else:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(SECRET, "x", (4,))
        made = group.create_virtual_dataset(key, layout)
    _described(made, attributes)


def _huge(random: Random, file: Any, name: str) -> None:
    group, key, attributes = _replaced(file, name)
    shape = random.choice(((2**40,), (2**31, 2**31), (2**62,), (0, 2**62), (2**33, 1)))
    packed: dict[str, Any] = random.choice(({"compression": "gzip"}, {"scaleoffset": 1}, {}, {"compression": "lzf"}))
    made = group.create_dataset(
        key, shape, "i4", chunks=(1,) * len(shape) if 0 in shape else (1024,) * len(shape), **packed
    )
    if 0 not in shape and len(shape) == 1 and random.random() < 0.5:
        made[:1024] = 1
    _described(made, attributes)


def _bomb(random: Random, file: Any, name: str) -> None:
    group, key, attributes = _replaced(file, name)
    made = group.create_dataset(key, (2**21, 64), "f8", chunks=(2**18, 64), compression="gzip", compression_opts=9)
    made[: 2**18] = 0  # one chunk of 128 MiB of zeros; a gigabyte is declared
    _described(made, attributes)


def _typed(random: Random, file: Any, name: str) -> None:
    group, key, attributes = _replaced(file, name)
    kinds: list[Any] = [
        np.dtype("V7"),
        np.dtype([("real", "f8"), ("imag", "f8")]),
        h5py.string_dtype(),
        h5py.vlen_dtype("f8"),
        h5py.ref_dtype,
        h5py.regionref_dtype,
        h5py.enum_dtype({"a": 1}),
        np.dtype("S3"),
        np.dtype(("f8", (2, 2))),
        np.dtype("c16"),
        np.dtype(">f2"),
        "empty",
        "named",
    ]
    kind = random.choice(kinds)
    if isinstance(kind, str) and kind == "empty":
        made = group.create_dataset(key, data=h5py.Empty("f8"))
    elif isinstance(kind, str):
        group[key] = np.dtype("f8")
        made = group[key]
    else:
        made = group.create_dataset(key, random.choice(((), (2,), (2, 2), (0,))), kind)
    _described(made, attributes)


def _attribute(random: Random, file: Any, name: str) -> None:
    item = file.get(name)
    if item is None:
        return
    words = ["MATLAB_class", "MATLAB_empty", "MATLAB_sparse", "MATLAB_int_decode", "MATLAB_object_decode", "x"]
    values = [b"cell", b"struct", b"double", b"logical", "int8", b"char", b"", np.bytes_("function_handle"), "\x1b[31m"]
    values += [
        3,
        [1, 2, 3],
        h5py.Empty("f8"),
        np.zeros((2, 2)),
        1e300,
        item.ref,
        b"\xff\xfe",
        np.int64(2**62),
        "a" * 9000,
    ]
    item.attrs[random.choice(words)] = random.choice(values)


def _named(random: Random, file: Any, name: str) -> None:
    other = random.choice(["\x1b[31m", "a b", "x" * 500, "...", "\u202e", "#refs#", "é", "layers/../x"])
    if other not in file:
        file[other] = file[name]


def _many(random: Random, file: Any, name: str) -> None:
    group, key, _ = _replaced(file, name)
    for _ in range(random.choice((40, 400))):
        group = group.create_group(key or "g")
        group.attrs["MATLAB_class"] = np.bytes_("struct")


def _referred(random: Random, file: Any, name: str) -> None:
    """A cell whose members are itself, its own file, or the same array over and over."""
    group, key, attributes = _replaced(file, name)
    made = group.create_dataset(key, (random.choice((1, 3, 30)), 1), h5py.ref_dtype)
    _described(made, {**attributes, "MATLAB_class": np.bytes_("cell")})
    made[...] = random.choice((made.ref, group.ref, file.ref))


def _described(item: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        item.attrs[name] = value


CHANGES = [_link, _elsewhere, _huge, _typed, _typed, _attribute, _attribute, _attribute, _named, _many, _referred]
CHANGES += [_link, _elsewhere, _huge, _referred]
CHANGES += [_bomb]
