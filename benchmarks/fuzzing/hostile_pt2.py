"""Hostile `.pt2` archives: pickles, libraries, expressions and operations that run code, sizes that nothing has."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def files(valid: Mapping[str, bytes], folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every one, with what it is."""
    from fuzzing.hostile import Runs, bomb, zipped

    static, dynamic = (_members(valid[f"{name}.pt2"]) for name in ("static", "dynamic"))
    root = next(iter(static)).partition("/")[0]
    code = pickle.dumps(Runs(), 2)

    def changed(members: Mapping[str, bytes], name: str, change: Any) -> bytes:
        key = next(k for k in members if k.endswith(name))
        said = json.loads(members[key])
        change(said)
        return zipped({**members, key: json.dumps(said).encode()})

    inputs = next(k for k in static if "sample_inputs" in k)
    yield "sample inputs that run code", zipped({**static, inputs: code})
    yield "sample inputs that run code, in an archive", zipped({**static, inputs: _torch_archive(code)})
    for kind in ("weights", "constants"):
        config = f"model_{kind}_config.json"
        name = next(k for k in static if k.endswith(config))
        first = next(iter(json.loads(static[name])["config"].values()))
        data = f"{name.rpartition('/')[0]}/{first['path_name']}"

        def pickled(said: Any) -> None:
            next(iter(said["config"].values()))["use_pickle"] = True

        for body, what in ((code, "a pickle"), (_torch_archive(code), "an archive")):
            yield f"{kind} as {what}", changed({**static, data: body}, config, pickled)
        yield f"{kind} of an old file", zipped({**static, f"{root}/data/{kind}/model.pt": code})
        for special in ("custom_obj_0", "opaque_obj_0"):

            def objected(said: Any, special: str = special) -> None:
                next(iter(said["config"].values())).update(path_name=special)

            folder_of = name.rpartition("/")[0]
            yield f"{special} in {kind}", changed({**static, f"{folder_of}/{special}": code}, config, objected)
        for path in ("../../escaped", "/escaped", "x" * 3000):

            def led(said: Any, path: str = path) -> None:
                next(iter(said["config"].values())).update(path_name=path)

            yield f"{kind} at {path[:20]}", changed(static, config, led)
        for size in (2**62, 2**40, 2**31, -1):

            def sized(said: Any, size: int = size) -> None:
                for entry in said["config"].values():
                    entry["tensor_meta"]["sizes"] = [{"as_int": size} for _ in entry["tensor_meta"]["sizes"]]

            yield f"{kind} of {size}", changed(static, config, sized)
            yield f"{kind} of {size}, empty", changed({**static, data: b""}, config, sized)
    run = "__import__('os').system('touch code-was-run')"
    for expression in (
        run,
        f"exec({run!r})",
        f"eval({run!r})",
        f"Max({run!r}, 1)",
        f"Symbol({run!r})",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "9**9**9**9",
        "(lambda: 1)()",
        "[x for x in 'a']",
        "Integer(1).__class__",
        "(" * 300 + "1" + ")" * 300,
        "factorial(10**8)",
    ):
        for name, content in _expressions(dynamic, expression, zipped):
            yield name, content
    for target in (
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "torch.ops.aten.from_file.default",
        "_operator.call",
        "_operator.attrgetter",
        "math.factorial",
        "torch.ops.higher_order.cond",
        "#evil:x",
        "torch.__builtins__.exec",
        "torch.ops.load_library",
    ):

        def aimed(said: Any, target: str = target) -> None:
            said["graph_module"]["graph"]["nodes"][0]["target"] = target

        yield f"the operation {target}", changed(static, "models/model.json", aimed)
    for context in ({"default_factory_module": "antigravity", "default_factory_name": "geohash", "dict_context": []},):
        for key in ("in_spec", "out_spec"):

            def treed(said: Any, key: str = key, context: Any = context) -> None:
                spec = json.dumps([1, {"type": "collections.defaultdict", "context": context, "children_spec": []}])
                said["graph_module"]["module_call_graph"][0]["signature"][key] = spec

            yield f"a defaultdict in {key}", changed(static, "models/model.json", treed)
    yield (
        "native code",
        zipped(
            {
                **static,
                f"{root}/data/aotinductor/model/x.so": b"\x7fELF",
                f"{root}/data/aotinductor/model/x_metadata.json": b"{}",
            }
        ),
    )
    yield "two models", zipped({**static, f"{root}/models/other.json": b"{}"})
    yield "two of one name", zipped([*static.items(), (inputs, code)])
    yield "two of one name but for case", zipped([(inputs.upper(), code), *static.items()])
    yield "a bomb", bomb(f"{root}/archive_format", b"pt2")
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        yield f"packed by {method}", zipped(static, method)
    yield (
        "an old file",
        zipped(
            {
                "version": b"8.7",
                "serialized_exported_program.json": b"{}",
                "serialized_state_dict.pt": code,
                "serialized_constants.pt": code,
                "serialized_example_inputs.pt": code,
            }
        ),
    )


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _torch_archive(code: bytes) -> bytes:
    """A pickle where torch.save has one."""
    import torch

    made = io.BytesIO()
    torch.save({}, made)
    members = {n: (code if n.endswith("data.pkl") else b) for n, b in _members(made.getvalue()).items()}
    from fuzzing.hostile import zipped

    return zipped(members)


def _expressions(members: Mapping[str, bytes], expression: str, zipped: Any) -> Iterator[tuple[str, bytes]]:
    """`expression` in the place of each expression of a size, and as an argument."""
    key = next(k for k in members if k.endswith("models/model.json"))
    said = json.loads(members[key])
    count = _replaced(said, None, expression)
    for place in range(min(count, 4)):
        said = json.loads(members[key])
        _replaced(said, place, expression)
        yield f"the expression {expression[:40]} at {place}", zipped({**members, key: json.dumps(said).encode()})


def _replaced(item: Any, place: int | None, expression: str) -> int:
    """How many expressions there are; the one at `place` is replaced."""
    found = 0
    waiting = [item]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict) and isinstance(item.get("expr_str"), str):
            if found == place:
                item["expr_str"] = expression
            found += 1
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return found
