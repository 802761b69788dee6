"""MATLAB's files: version 5 and 7 as Octave and SciPy write them, 7.3 written by hand with h5py, and bad ones."""

import struct
import subprocess
import zlib

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from conformance.arrays import read_arrays
from conformance.errors import ConformanceError
from conformance.mat import open_mat, read_mat

PROGRAM = """
a = [1 2; 3 4]; s = single (2.5); i = int8 ([-1 5]); l = [true; false]; e = zeros (0, 3);
t = 'text'; z = 1 + 2i; p = sparse ([1 0; 0 2]); d = zeros (2, 1, 3, 1); d(2,1,3) = 7;
r.kernel = [1 2 3]; r.deep.bias = 4; r.name = 'x'; c = {1, 'two'; [3 4], {5}};
m(1).v = 1; m(2).v = 2;
save ('-v7', 'v7.mat', 'a', 's', 'i', 'l', 'e', 't', 'z', 'p', 'd', 'r', 'c', 'm');
save ('-v6', 'v6.mat', 'a', 's', 'i', 'l', 'e', 't', 'z', 'p', 'd', 'r', 'c', 'm');
save ('-v4', 'v4.mat', 'a'); save ('text.mat', 'a'); save ('-zip', 'zip.mat', 'a');
save ('-hdf5', 'hdf5.mat', 'a'); save ('-binary', 'binary.mat', 'a');
"""


@pytest.fixture(scope="module")
def octave(tmp_path_factory):
    """A folder of files that Octave saved."""
    folder = tmp_path_factory.mktemp("octave")
    subprocess.run(
        ["octave-cli", "--no-init-file", "--quiet", "--eval", PROGRAM], cwd=folder, check=True, capture_output=True
    )
    return folder


@pytest.mark.parametrize("version", ["v6", "v7"])
def test_octave_files(octave, version):
    file = open_mat(octave / f"{version}.mat")
    values = {name: (array.dtype.name, array.tolist()) for name, array in file.arrays.items() if array.ndim == 2}
    assert values == {
        "a": ("float64", [[1, 2], [3, 4]]),
        "s": ("float32", [[2.5]]),
        "i": ("int8", [[-1, 5]]),
        "l": ("bool", [[True], [False]]),
        "e": ("float64", []),
        "r.kernel": ("float64", [[1, 2, 3]]),
        "r.deep.bias": ("float64", [[4]]),
        "c{1}": ("float64", [[1]]),
        "c{2}": ("float64", [[3, 4]]),  # column-major: c{2} is c{2,1}
        "c{4}{1}": ("float64", [[5]]),
        "m(1).v": ("float64", [[1]]),
        "m(2).v": ("float64", [[2]]),
    }
    assert file.arrays["e"].shape == (0, 3)
    assert file.arrays["d"].shape == (2, 1, 3)  # the last axis, of length 1, was dropped by Octave
    assert file.arrays["d"][1, 0, 2] == 7
    assert set(file.left_out) == {"t", "z", "p", "r.name", "c{3}"}


@pytest.mark.parametrize("version", ["v6", "v7"])
def test_lines_of_text_are_read(octave, version):
    file = open_mat(octave / f"{version}.mat")
    assert file.texts == {"t": "text", "r.name": "x", "c{3}": "two"}
    within = file.within("r")
    assert (set(within.arrays), within.texts) == ({"kernel", "deep.bias"}, {"name": "x"})


def test_what_is_left_out_is_an_error_only_when_asked_for(octave):
    file = open_mat(octave / "v7.mat")
    assert file["a"].shape == (2, 2)
    for name, what in {"t": "text", "z": "complex", "p": "a sparse matrix"}.items():
        with pytest.raises(ConformanceError, match=f"v7.mat: '{name}' is {what}"):
            file[name]
    with pytest.raises(ConformanceError, match=r"there is no 'r.kernal' \(did you mean 'r.kernel'\?\)"):
        file["r.kernal"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("text.mat", "Octave's text format, its default; .*save -v7 text.mat"),
        ("hdf5.mat", "Octave's own HDF5 layout; .*save -v7 hdf5.mat"),
        ("binary.mat", "Octave's binary format; .*save -v7 binary.mat"),
        ("zip.mat", "compressed with gzip .*save -v7 zip.mat"),
        ("v4.mat", "not a MAT-file of version 5, 7 or 7.3; .*save -v7 v4.mat"),
    ],
)
def test_other_formats_of_octave(octave, name, says):
    with pytest.raises(ConformanceError, match=says):
        read_mat(octave / name)


def test_whole_numbers_that_are_stored_in_bytes_are_doubles(tmp_path):
    # as MATLAB does it, and Octave does not: class mxDOUBLE (6), data of type miUINT8 (2)
    flags = struct.pack("<IIII", 6, 8, 6, 0)
    dims = struct.pack("<IIii", 5, 8, 1, 3)
    name = struct.pack("<HH4s", 1, 1, b"x")
    data = struct.pack("<HH4s", 2, 3, bytes([7, 200, 0]))
    body = flags + dims + name + data
    path = tmp_path / "bytes.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 14, len(body)) + body)
    assert read_mat(path)["x"].dtype == np.float64
    assert read_mat(path)["x"].tolist() == [[7, 200, 0]]


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def v5(path, class_number, dims, *members, compress=False, flags=0):
    """A file of one variable `x` of a class, with dimensions and content as given, true or not."""
    body = element(6, struct.pack("<II", class_number | flags, 0))
    body += element(5, struct.pack(f"<{len(dims)}i", *dims)) + element(1, b"x") + b"".join(members)
    whole = struct.pack("<II", 14, len(body)) + body
    if compress:
        small = zlib.compress(whole)
        whole = struct.pack("<II", 15, len(small)) + small
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + whole)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("class_number", "dims", "members"),
    [
        (6, (2**30, 2**30), [element(9, bytes(16))]),  # doubles
        (1, (2**30, 1), []),  # cells
        (2, (2**20, 2**10), [element(5, struct.pack("<i", 8)), element(1, b"field\0\0\0")]),  # structs
        (6, (-1, 3), [element(9, bytes(16))]),
        (6, (1, 1), [struct.pack("<II", 9, 2**31)]),
    ],
)
def test_a_file_that_lies_about_sizes_is_refused(tmp_path, class_number, dims, members, compress):
    path = v5(tmp_path / "lie.mat", class_number, dims, *members, compress=compress)
    with pytest.raises(ConformanceError, match="truncated or corrupt"):
        read_mat(path)


def test_cells_without_end_are_refused(tmp_path):
    body = b""
    for _ in range(100):
        cell = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"") + body
        body = struct.pack("<II", 14, len(cell)) + cell
    path = v5(tmp_path / "deep.mat", 1, (1, 1), body)
    with pytest.raises(ConformanceError, match="nested more than 32 deep"):
        read_mat(path)


def test_scipy_files_and_both_compressions(tmp_path):
    x = np.random.default_rng(3).standard_normal((3, 4, 5))
    for compress in (False, True):
        savemat(tmp_path / "s.mat", {"x": x, "p": csc_matrix(np.eye(2))}, do_compression=compress)
        file = open_mat(tmp_path / "s.mat")
        assert np.array_equal(file["x"], x)
        assert set(file.left_out) == {"p"}


def test_truncated_files_of_every_length(tmp_path):
    path = tmp_path / "s.mat"
    savemat(path, {"x": np.arange(12.0).reshape(3, 4), "c": {"a": np.ones(2)}})
    content = path.read_bytes()
    whole = 0
    for length in range(0, len(content), 8):
        path.write_bytes(content[:length])
        try:
            whole += set(read_mat(path)) <= {"x", "c.a"}  # cut between variables: nothing tells
        except ConformanceError as error:
            assert str(path) in str(error)  # noqa: PT017  # either outcome is right, depending on the length
    assert whole <= 2


def test_damaged_files_give_a_sentence_and_no_other_exception(tmp_path):
    random = np.random.default_rng(7)
    path = tmp_path / "d.mat"
    for compress in (False, True):
        savemat(path, {"x": np.arange(12.0), "s": {"a": np.ones(2), "t": "text"}}, do_compression=compress)
        content = path.read_bytes()
        refused = 0
        for _ in range(300):
            damaged = bytearray(content)
            for at in random.integers(124, len(content), 2):
                damaged[at] = random.integers(256)
            path.write_bytes(damaged)
            try:
                read_mat(path)
            except ConformanceError:
                refused += 1
        assert refused > 50


# ------------------------------------------------------------------------------------------ version 7.3


@pytest.fixture
def v73(tmp_path):
    """A function that opens a new file with MATLAB's header in a user block of 512 bytes."""

    def create(name="new.mat"):
        path = tmp_path / name
        with h5py.File(path, "w", userblock_size=512):
            pass
        with path.open("r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM")
        return path

    return create


def put(group, name, data, kind, **attributes):
    item = group.create_dataset(name, data=data)
    item.attrs["MATLAB_class"] = np.bytes_(kind)
    for key, value in attributes.items():
        item.attrs[key] = value
    return item


def test_v73_axes_are_turned_back(v73):
    path = v73()
    x = np.arange(24.0).reshape(2, 3, 4)
    with h5py.File(path, "r+") as file:
        put(file, "x", x.transpose(2, 1, 0), "double")
        put(file, "s", np.float32([[1.5]]), "single")
        put(file, "l", np.uint8([[1, 0]]), "logical", MATLAB_int_decode=np.int32(1))
        put(file, "i", np.int16([[-3], [4]]), "int16")
        put(file, "e", np.uint64([0, 3]), "double", MATLAB_empty=np.uint8(1))
        packed = file.create_dataset("packed", data=np.zeros((100, 100)), compression="gzip")
        packed.attrs["MATLAB_class"] = np.bytes_("double")
    arrays = read_arrays(path)
    assert np.array_equal(arrays["x"], x)
    assert arrays["x"].flags.c_contiguous
    assert (arrays["s"].dtype, arrays["s"].tolist()) == (np.float32, [[1.5]])
    assert (arrays["l"].dtype, arrays["l"].tolist()) == (np.bool_, [[True], [False]])
    assert (arrays["i"].dtype, arrays["i"].tolist()) == (np.int16, [[-3, 4]])
    assert (arrays["e"].dtype, arrays["e"].shape) == (np.float64, (0, 3))
    assert arrays["packed"].shape == (100, 100)


def test_v73_structs_and_cells(v73):
    path = v73()
    with h5py.File(path, "r+") as file:
        refs = file.create_group("#refs#")
        put(refs, "a", [[1.0]], "double")
        put(refs, "b", np.uint16([[116], [119]]), "char", MATLAB_int_decode=np.int32(2))
        put(refs, "c", [[3.0], [4.0]], "double")
        cell = file.create_dataset("c", (2, 1), h5py.ref_dtype)  # a cell of 1 x 2 in MATLAB
        cell[:, 0] = [refs["a"].ref, refs["b"].ref]
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        group = file.create_group("r")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        put(group, "kernel", [[1.0, 2.0]], "double")
        inner = group.create_dataset("parts", (2, 1), h5py.ref_dtype)
        inner[:, 0] = [refs["a"].ref, refs["c"].ref]
        inner.attrs["MATLAB_class"] = np.bytes_("cell")
        many = file.create_group("m")
        many.attrs["MATLAB_class"] = np.bytes_("struct")
        field = many.create_dataset("v", (2, 1), h5py.ref_dtype)  # a struct array: no class on the field
        field[:, 0] = [refs["a"].ref, refs["c"].ref]
        handle = file.create_group("f")
        handle.attrs["MATLAB_class"] = np.bytes_("function_handle")
        put(file, "o", np.uint32([[1, 2]]), "dlarray", MATLAB_object_decode=np.int32(3))
        complex_type = np.dtype([("real", "f8"), ("imag", "f8")])
        put(file, "z", np.array([[(1.0, 2.0)]], complex_type), "double")
    file = open_mat(path)
    assert {n: a.tolist() for n, a in file.arrays.items()} == {
        "c{1}": [[1]],
        "r.kernel": [[1], [2]],
        "r.parts{1}": [[1]],
        "r.parts{2}": [[3, 4]],
        "m(1).v": [[1]],
        "m(2).v": [[3, 4]],
    }
    assert set(file.left_out) == {"c{2}", "f", "o", "z"}
    assert file.left_out["o"] == "an object of class dlarray"


def test_v73_that_matlab_did_not_write(tmp_path):
    with h5py.File(tmp_path / "plain.mat", "w") as file:
        file["x"] = np.ones(3)
    with pytest.raises(ConformanceError, match=r"HDF5, but not as MATLAB 7.3 writes it; .*save -v7 plain.mat"):
        read_mat(tmp_path / "plain.mat")


def test_v73_truncated(v73):
    path = v73()
    with h5py.File(path, "r+") as file:
        put(file, "x", np.ones((50, 50)), "double")
    content = path.read_bytes()
    for length in (600, 1500, len(content) - 1000):
        path.write_bytes(content[:length])
        with pytest.raises(ConformanceError, match="truncated or corrupt"):
            read_mat(path)


@pytest.mark.parametrize("options", [{"chunks": (64, 64)}, {"chunks": (64, 64), "compression": "gzip"}])
def test_v73_that_declares_more_than_it_holds(v73, options):
    path = v73()
    with h5py.File(path, "r+") as file:
        item = file.create_dataset("x", (2**20, 2**20), "f8", **options)
        item.attrs["MATLAB_class"] = np.bytes_("double")
    with pytest.raises(ConformanceError, match=r"declares .* of which only 0 bytes are there"):
        read_mat(path)


def test_v73_never_leaves_the_file(v73, tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(80))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(3)
    path = v73()
    with h5py.File(path, "r+") as file:
        put(file, "a", [[1.0]], "double")
        file["link"] = h5py.ExternalLink("other.h5", "/x")
        file["soft"] = h5py.SoftLink("/a")
    file = open_mat(path)
    assert list(file.arrays) == ["a"]
    assert set(file.left_out) == {"link", "soft"}
    with h5py.File(path, "r+") as file:
        outside = file.create_dataset("x", (10,), "f8", external=[(str(tmp_path / "secret.bin"), 0, 80)])
        outside.attrs["MATLAB_class"] = np.bytes_("double")
    with pytest.raises(ConformanceError, match="keeps its values in another file"):
        read_mat(path)


def test_v73_references_in_a_circle(v73):
    path = v73()
    with h5py.File(path, "r+") as file:
        cell = file.create_dataset("c", (1, 1), h5py.ref_dtype)
        cell[0, 0] = cell.ref
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
    with pytest.raises(ConformanceError, match="nested more than 32 deep"):
        read_mat(path)
