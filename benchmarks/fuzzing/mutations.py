"""Damage: a valid file in, a broken or hostile one out.

Half of it knows the format (members of an archive, JSON, protobuf fields, HDF5 links, the header of a tensor file,
compressed variables) and leaves the rest whole, so that it gets past the first check; the other half is bytes.
"""

from __future__ import annotations

import io
import json
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from random import Random
from typing import Any

from fuzzing import hdf5, protobuf

INTEGERS = [0, 1, -1, 2, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64]
INTEGERS += [-(2**31), -(2**63), 10**30]
TEXTS = ["", "../escaped", "/escaped", "..", ".", "a/../../escaped", "\0", "\x1b[31mred", "x\ny", "a" * 5000, "\u202e"]
TEXTS += ["inputs.x", "__reduce__", "os.system", "nan", "1e999", "\ud800"]
OTHERS = [None, True, False, [], {}, [[]], {"": None}, 1e308, -0.5, float("nan"), float("inf")]
NAMES = ["../escaped", "/escaped", "a/../../escaped", "..\\escaped", "", "con", "x\0y", "../../tmp/escaped", "model/.."]
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]

Mutation = Callable[[Random, bytes], bytes]


def mutated(random: Random, suffix: str, content: bytes, seeds: Sequence[bytes]) -> bytes:
    """`content`, of a file whose name ends in `suffix`, with one to three changes; `seeds` are spliced in."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        structured = STRUCTURED.get(suffix)
        if structured is not None and (suffix == ".saved" or random.random() < 0.6):
            try:
                content = structured(random, content)
                continue
            except Exception:  # it is too damaged already to be taken apart; `damaged` goes on
                if suffix == ".saved":
                    continue
        content = damaged(random, content, seeds)
    return content


def damaged(random: Random, content: bytes, seeds: Sequence[bytes]) -> bytes:
    """One change of bytes."""
    data = bytearray(content)
    size = len(data)
    at = random.randrange(size + 1) if random.random() < 0.6 else random.randrange(min(size, 256) + 1)
    length = min(random.choice((1, 2, 4, 8, 16, 64, 512)), size - at)
    kind = random.randrange(8)
    if kind == 0 and at < size:
        data[at] ^= 1 << random.randrange(8)
    elif kind == 1:
        data[at : at + length] = random.randbytes(length)
    elif kind == 2:  # a number of a usual width and order, mostly where such numbers lie
        width = random.choice("HIQ")
        packed = struct.pack(random.choice("<>") + width, random.choice(INTEGERS) % 2 ** (8 * struct.calcsize(width)))
        at -= at % len(packed) if random.random() < 0.7 else 0
        data[at : at + len(packed)] = packed
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        del data[at : at + length]
    elif kind == 5:
        data[at:at] = data[at : at + length] * random.choice((1, 1, 50))
    elif kind == 6:
        other = random.choice(seeds)
        start = random.randrange(len(other) + 1)
        data[at : at + random.choice((0, length))] = other[start : start + random.choice((8, 64, 1024))]
    else:
        data[at:at] = random.choice((b"\0", b"[" * 3000, b"(" * 300, b'"', b"\xff\xfe", b"{" * 3000, b"9" * 5000))
    return bytes(data)


def _any(random: Random) -> Any:
    kind = random.randrange(8)
    if kind < 3:
        return random.choice(INTEGERS)
    if kind < 5:
        return random.choice(TEXTS)
    if kind == 5:
        deep: Any = []
        for _ in range(random.choice((5, 100, 900))):
            deep = [deep] if random.random() < 0.5 else {"config": deep, "class_name": "Dense", "module": "keras"}
        return deep
    return random.choice(OTHERS)


def value(random: Random, content: Any) -> Any:
    """JSON's `content` with one value changed, somewhere in it."""
    places: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        item = waiting.pop()
        for key in item if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ():
            places.append((item, key))
            waiting.append(item[key])
    if not places:
        return _any(random)
    item, key = random.choice(places)
    kind = random.randrange(6)
    if kind == 0:
        del item[key]
    elif kind == 1 and isinstance(item, list):
        item[key : key + 1] = [item[key]] * random.choice((2, 50))
    elif kind == 2 and isinstance(item, dict):
        item[random.choice(TEXTS)] = item.pop(key)
    elif kind == 3:  # what stands somewhere else in it
        other, where = random.choice(places)
        item[key] = json.loads(json.dumps(other.get(where) if isinstance(other, dict) else other[where % len(other)]))
    else:
        item[key] = _any(random)
    return content


def text_of_json(random: Random, content: bytes) -> bytes:
    """A JSON document with one value changed."""
    return json.dumps(value(random, json.loads(content))).encode("utf-8", "surrogatepass")


def toml(random: Random, content: bytes) -> bytes:
    """A TOML document with one line changed."""
    lines = content.decode().splitlines()
    at = random.randrange(len(lines))
    name, equals, _ = lines[at].partition("=")
    kind = random.randrange(5)
    if kind < 3 and equals:
        wrong = [
            json.dumps(_any(random)),
            "[" * 2000,
            "{a=" * 500,
            "9" * 5000,
            "1979-05-27",
            '"\\ud800"',
            "inf",
            "[{}]",
        ]
        lines[at] = f"{name}= {random.choice(wrong)}"
    elif kind == 3:
        del lines[at]
    else:
        lines.insert(at, random.choice((*lines, "[form]", "[[layer]]", "config = 3", "a." * 2000 + "b = 1", "\x00")))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def safetensors(random: Random, content: bytes) -> bytes:
    """The header changed, the tensors left."""
    (length,) = struct.unpack_from("<Q", content)
    header = text_of_json(random, content[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def exported(random: Random, content: bytes) -> bytes:
    """What the header says of layers changed, the tensors left; at times, the header around it."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    if random.random() < 0.1:
        return safetensors(random, content)
    said = json.loads(header["__metadata__"]["conformance"])
    if random.random() < 0.3:  # what stands at the top is one in a thousand of the values
        said[random.choice(list(said))] = _any(random)
    header["__metadata__"]["conformance"] = json.dumps(value(random, said))
    packed = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(packed)) + packed + content[8 + length :]


def npy(random: Random, content: bytes) -> bytes:
    """The header of an array changed, the values left."""
    end = content.index(b"\n") + 1
    headers = [
        f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape},), }}"
        for dtype in ("<f8", "|O", "<U9", "f4,f4", "<M8[ns]", "V0", "|S0", "<f8,", "zz", "<c16", ">f2", "|b1")
        for shape in ("2", "0", "-1", "4611686018427387904", "4611686018427387904,4", "1," * 70 + "1", "0,2**62", "1e3")
    ]
    headers += [
        "{" * 200,
        "-" * 3000 + "1",
        "__import__('os').system('touch escaped')",
        "{'descr': [('a', '<f8')]",
        "(",
        "",
    ]
    headers += [
        "{'descr': '<f8', 'fortran_order': [], 'shape': (2L,), }",
        "{1: 2, 'descr': 3, 'shape': 4}",
        "'''",
        "\t x\n y",
    ]
    header = random.choice(headers).encode()
    version = random.choice((1, 1, 2, 3, 9))
    size = struct.pack("<H" if version == 1 else "<I", random.choice((len(header) + 1, len(header) + 1, 65535, 3)))
    return b"\x93NUMPY" + bytes((version, 0)) + size + header + b"\n" + content[end:]


def archive(random: Random, content: bytes) -> bytes:
    """A zip archive with one member changed, renamed, doubled, dropped or packed in another way."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    at = random.randrange(len(members))
    name, body = members[at]
    kind = random.randrange(8)
    method = zipfile.ZIP_STORED
    if kind == 0:
        members[at] = (random.choice(NAMES), body)
    elif kind == 1:
        members.insert(random.randrange(len(members) + 1), (random.choice((name, name, *NAMES)), body))
    elif kind == 2:
        del members[at]
    elif kind == 3:
        method = random.choice(METHODS)
    else:
        members[at] = (name, mutated(random, "." + name.rpartition(".")[2], body, [b for _, b in members]))
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w", method) as new:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, body in members:
            new.writestr(zipfile.ZipInfo(name), body, method)
    return made.getvalue()


def mat(random: Random, content: bytes) -> bytes:
    """A MAT-file: a compressed variable unpacked, changed and packed again; of version 7.3, as HDF5."""
    if b"\x89HDF" in content[:600]:
        return pristine(random, content)
    found, at = [], 128
    while at + 8 <= len(content):
        kind, size = struct.unpack_from("<II", content, at)
        if kind == 15:
            found.append((at, size))
        at += 8 + size
    if not found:
        return damaged(random, content[:128], [content]) if random.random() < 0.02 else _aligned(random, content, 128)
    at, size = random.choice(found)
    packed = zlib.compress(_aligned(random, zlib.decompress(content[at + 8 : at + 8 + size]), 0))
    return content[:at] + struct.pack("<II", 15, len(packed)) + packed + content[at + 8 + size :]


def _aligned(random: Random, content: bytes, start: int) -> bytes:
    """One of the four-byte numbers of which the tags, flags and sizes of a MAT-file are made."""
    data = bytearray(content)
    at = start + 4 * random.randrange(max(1, (min(len(content), start + 400) - start) // 4))
    small = [random.randrange(20), *[n for n in INTEGERS if abs(n) < 2**33], 0x00010001, 0x00040005, 0x800, 0x200]
    data[at : at + 4] = struct.pack("<I", random.choice(small) % 2**32)
    return bytes(data)


_PRISTINE: set[str] = set()


def trust(files: Iterable[bytes]) -> None:
    """Say that `files`, and the HDF5 files in those that are archives, are of HDF5's own making."""
    for content in files:
        trusted(content)
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as held:
                trust(held.read(name) for name in held.namelist() if name.endswith(".h5"))


def trusted(content: bytes) -> bytes:
    """Say that `content` is a file of HDF5's own making: only such are opened here, for the library may not survive."""
    _PRISTINE.add(sha256(content).hexdigest())
    return content


def pristine(random: Random, content: bytes) -> bytes:
    """An HDF5 file with one item changed through the library."""
    if sha256(content).hexdigest() not in _PRISTINE:
        raise ValueError("damaged already")
    return trusted(hdf5.changed(random, content))


def described(random: Random, content: bytes) -> bytes:
    """An HDF5 file with the config of the model in it changed, or one item."""
    if random.random() < 0.4 and sha256(content).hexdigest() in _PRISTINE:
        return trusted(hdf5.reworded(random, content, lambda said: value(random, said)))
    return pristine(random, content)


def state(random: Random, content: bytes) -> bytes:
    """A state dict: a member of its archive, or one of the pickles of an old file."""
    return archive(random, content) if zipfile.is_zipfile(io.BytesIO(content)) else pickled(random, content)


def pickled(random: Random, content: bytes) -> bytes:
    """A pickle with one opcode dropped, doubled, exchanged, or with another argument."""
    opcodes = []
    try:
        opcodes = list(pickletools.genops(content))
    except ValueError:  # damaged already, or tensors behind it
        if not opcodes:
            return damaged(random, content, [content])
    starts = [at for _, _, at in opcodes if at is not None]
    index = random.randrange(len(starts) - 1)
    start, end = starts[index], starts[index + 1]
    one = content[start:end]
    other = random.randrange(len(starts) - 1)
    wrong = random.choice(
        (
            b"",
            one * random.choice((2, 50)),
            content[starts[other] : starts[other + 1]],
            b"\x8a\x08" + struct.pack("<q", random.choice(INTEGERS) % 2**62),
            b"J" + struct.pack("<i", random.choice((-1, 0, 2**31 - 1, -(2**31)))),
            b"X\x04\x00\x00\x00meta",
            b"ctorch.storage\n_load_from_bytes\n",
            b"cos\nsystem\n",
            b"ctorch\nFloatStorage\n",
            b"N",
            b"}",
            b"(" * 50,
            b"2" * 50,
        )
    )
    return content[:start] + wrong + content[end:]


def saved(random: Random, content: bytes) -> bytes:
    """A saved run with one file changed, and with the checksums that it then should have, mostly."""
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        files = {info.filename: old.read(info) for info in old.infolist()}
    name = random.choice(list(files))
    body = files[name]
    seal = None
    if name.endswith(".json") and b'"sha256"' in body[:100] and random.random() < 0.9:
        seal = json.loads(body)
        body = json.dumps(seal["content"]).encode()
    body = mutated(random, "." + name.rpartition(".")[2], body, list(files.values()))
    if seal is not None:
        files[name] = b'{"schema":1,"sha256":"%s","content":%s}' % (sha256(body).hexdigest().encode(), body)
    else:
        files[name] = body
    case = name.replace(".safetensors", ".json")
    if name.endswith(".safetensors") and case in files:
        held = json.loads(files[case])["content"] | {"arrays": sha256(body).hexdigest()}
        inner = json.dumps(held).encode()
        files[case] = b'{"schema":1,"sha256":"%s","content":%s}' % (sha256(inner).hexdigest().encode(), inner)
    if random.random() < 0.05:
        del files[name]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        for name, body in files.items():
            new.writestr(zipfile.ZipInfo(name), body)
    return made.getvalue()


STRUCTURED: dict[str, Mutation] = {
    ".mat": mat,
    ".npz": archive,
    ".keras": archive,
    ".pt2": archive,
    ".npy": npy,
    ".json": text_of_json,
    ".toml": toml,
    ".safetensors": safetensors,
    ".h5": described,
    ".weights.h5": pristine,
    ".pt": state,
    ".pkl": pickled,
    ".exported": exported,
    ".saved": saved,
    ".onnx": protobuf.changed,
}
