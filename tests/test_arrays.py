"""Array files, good and bad. Expected values are written by NumPy, struct and by hand."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest

from conformance.arrays import read_arrays
from conformance.errors import ConformanceError


def safetensors(path, **tensors):
    """A file in the safetensors format, byte by byte: an 8-byte length, a JSON header, the data."""
    header, data = {}, b""
    for name, (kind, shape, content) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def npz(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def test_safetensors_keeps_values_and_dtypes(tmp_path):
    path = safetensors(
        tmp_path / "a.safetensors",
        double=("F64", [2, 1], struct.pack("<2d", 0.1, -2.5)),
        half=("F16", [2], struct.pack("<2e", 0.5, -3.0)),
        mask=("BOOL", [3], b"\x01\x00\x01"),
        index=("I64", [1], struct.pack("<q", -7)),
    )
    arrays = read_arrays(path)
    assert {n: a.dtype.name for n, a in arrays.items()} == {
        "double": "float64",
        "half": "float16",
        "mask": "bool",
        "index": "int64",
    }
    assert arrays["double"].tolist() == [[0.1], [-2.5]]
    assert arrays["half"].tolist() == [0.5, -3.0]
    assert arrays["mask"].tolist() == [True, False, True]
    assert arrays["index"].tolist() == [-7]


def test_bfloat16_is_widened_exactly(tmp_path):
    # 0x3F80 is 1, 0xC049 is -(1 + 73/128) * 2 = -3.140625, 0x7F80 is infinity
    path = safetensors(tmp_path / "a.safetensors", x=("BF16", [3], struct.pack("<3H", 0x3F80, 0xC049, 0x7F80)))
    array = read_arrays(path)["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [1.0, -3.140625, float("inf")]


def test_npz_keeps_values_dtypes_and_order(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(
        path, x=np.asfortranarray(np.arange(6.0).reshape(2, 3)), scalar=np.float32(2), none=np.zeros((0, 4))
    )
    arrays = read_arrays(path)
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["scalar"].shape == ()
    assert arrays["scalar"].dtype == np.float32
    assert arrays["none"].shape == (0, 4)


def test_upper_case_suffix_is_known(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    (tmp_path / "a.npz").rename(tmp_path / "B.NPZ")
    assert read_arrays(tmp_path / "B.NPZ")["x"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.npz", "there is no such file"),
        ("missing.safetensors", "there is no such file"),
        ("weights.pth", r"'.pth' is no known kind of array file; use one of .safetensors, .npz, .mat"),
        ("weights", "a name without a suffix is no known kind"),
        ("folder.npz", "is a folder"),
    ],
)
def test_a_wrong_path_is_said_so(tmp_path, name, says):
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ConformanceError, match=says):
        read_arrays(tmp_path / name)


@pytest.mark.parametrize("keep", [0, 4, 9, 60, -1])
def test_truncated_safetensors(tmp_path, keep):
    path = safetensors(tmp_path / "a.safetensors", x=("F64", [4], bytes(32)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConformanceError, match="not a whole safetensors file"):
        read_arrays(path)


def test_safetensors_of_an_unknown_element_type(tmp_path):
    path = safetensors(tmp_path / "a.safetensors", x=("F8_E4M3", [4], bytes(4)))
    with pytest.raises(ConformanceError, match="'x' has element type F8_E4M3; store it as F32 or F64"):
        read_arrays(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_truncated_npz(tmp_path, share):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(100.0))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ConformanceError, match=r"not a whole \.npz file"):
        read_arrays(path)


def test_npz_with_a_damaged_byte(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(100.0))
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ConformanceError, match=r"not a whole \.npz file"):
        read_arrays(path)


def test_object_arrays_are_never_unpickled(tmp_path):
    path = npz(tmp_path / "a.npz", x=npy(np.array([{"a": 1}], dtype=object), allow_pickle=True))
    with pytest.raises(ConformanceError, match="'x' holds pickled Python objects, which are never loaded"):
        read_arrays(path)


def test_a_pickle_called_npy(tmp_path):
    path = npz(tmp_path / "a.npz", x=pickle.dumps([1, 2]))
    with pytest.raises(ConformanceError, match=r"not a whole \.npz file"):
        read_arrays(path)


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([1 + 2j]), np.array([0], "datetime64[s]")])
def test_what_is_not_a_real_number_is_refused(tmp_path, array):
    path = npz(tmp_path / "a.npz", x=npy(array))
    with pytest.raises(ConformanceError, match=r"'x' has dtype .*; store it as an array of real numbers"):
        read_arrays(path)


def test_a_size_that_is_not_there_is_refused_before_memory_is_set_aside(tmp_path):
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**20)}
    np.lib.format.write_array_header_1_0(stream, header)
    path = npz(tmp_path / "a.npz", x=stream.getvalue() + bytes(64))
    with pytest.raises(ConformanceError, match="'x' is declared as"):
        read_arrays(path)


def test_a_zip_of_something_else(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ConformanceError, match=r"'readme.txt' is not a \.npy array"):
        read_arrays(path)
