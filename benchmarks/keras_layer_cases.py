"""Keras's own layer tests as a source of configurations: every call of a layer in the tests that the installed `keras`
brings is judged against the canonical layer, and every value that a test expects of it is held against the oracle.

    python benchmarks/keras_layer_cases.py                      # counts for each layer, then what does not conform
    python benchmarks/keras_layer_cases.py --check              # exits 1 where something has no explanation
    python benchmarks/keras_layer_cases.py --backend jax --tests pooling

The tests run as they are, on each back end in a process of its own. Only what trains, saves or quantises a layer is
left out. What is not judged, or does not conform, is explained in `keras_layer_cases.toml` beside this file:
patterns of cases with a reason each. An explanation that no case needs any more is an error too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tomllib
import unittest
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from judged_cases import Judged, explained, print_count, print_counts, told

if TYPE_CHECKING:
    from conformance.rounding import RoundedArray

EXPLAINED = Path(__file__).with_suffix(".toml")
BACKENDS = ("tensorflow", "jax", "torch")
FAMILIES = ("activations", "attention", "convolutional", "core", "normalization", "pooling", "regularization",
            "reshaping", "rnn")  # fmt: skip
# What these tests call beside layers, or what they do with them, is not what a layer computes.
LEFT_OUT = ("quanti", "lora", "sav", "serializ", "fit", "train", "memory", "distribut", "litert", "tflite", "gptq",
            "awq", "config", "symbolic", "onnx", "jit", "int4", "int8", "float8")  # fmt: skip
PRINTED = 12  # with more decimals than these, a number was computed and not written down


def main(arguments: list[str] | None = None) -> int:
    """Judge every case, print the counts. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="only this one (repeatable)")
    parser.add_argument("--tests", action="append", help="only files whose path has this in it (repeatable)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a case is not explained")
    parser.add_argument("--cases", action="store_true", help="print the cases of the one back end as JSON")
    given = parser.parse_args(arguments)
    chosen = given.backend or list(BACKENDS)
    if given.cases:
        print(json.dumps([asdict(case) for case in Recorder(chosen[0]).cases(given.tests or [""])]))
        return 0
    found = [case for backend in chosen for case in _apart(backend, given.tests or [])]
    reasons = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["explanation"]
    print_counts("layer", found, sorted({case.kind for case in found}))
    print_count("of them expected values", [case for case in found if case.name.endswith(EXPECTED)])
    right = explained(found, reasons, complete=not given.tests and not given.backend)
    return 1 if given.check and not right else 0


def _apart(backend: str, tests: list[str]) -> list[Judged]:
    """The cases of one back end, in a process of its own: Keras has one back end in a process."""
    command = [sys.executable, __file__, "--cases", "--backend", backend, *[a for t in tests for a in ("--tests", t)]]
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"the tests cannot be run on {backend}: {done.stderr}")
    return [Judged(**case) for case in json.loads(done.stdout.splitlines()[-1])]


EXPECTED = " expected"


class Recorder:
    """Runs Keras's tests on one back end, and judges what they call."""

    def __init__(self, backend: str) -> None:
        self.backend, self.found, self.counts = backend, list[Judged](), Counter[str]()
        self.made: list[tuple[Any, str, Any]] = []  # what calls of this test returned, and the calls
        self.test, self.inside = "", False

    def cases(self, paths: list[str]) -> list[Judged]:
        """The verdicts on every call, and on every value that is expected of one."""
        import keras
        from keras.src.testing import TestCase

        call, close = keras.Layer.__call__, TestCase.assertAllClose

        def judged(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if self.inside:
                return call(layer, *args, **kwargs)
            self.inside = True
            try:
                returned = call(layer, *args, **kwargs)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._judge(layer, args, kwargs, returned)
                return returned
            finally:
                self.inside = False

        def held(test: Any, actual: Any, desired: Any, **options: Any) -> None:
            self._expect(actual, desired)
            close(test, actual, desired, **options)

        def not_held(test: Any, actual: Any, desired: Any, **options: Any) -> None:
            try:
                close(test, actual, desired, **options)
            except AssertionError:
                return
            raise AssertionError("the two are close")

        replaced = {"run_layer_test": called_once, "assertAllClose": held, "assertNotAllClose": not_held}
        with patch.object(keras.Layer, "__call__", judged), patch.multiple(TestCase, **replaced):
            for test in tests(paths):
                self.test, self.made = test.id().removeprefix("keras.src.layers."), []
                keras.utils.set_random_seed(0)
                test.run(unittest.TestResult())
        return self.found

    def _judge(self, layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], returned: Any) -> None:
        """One call: the layer beside the canonical one, on what it was called with."""
        from conformance.checking import Checked
        from conformance.errors import ConformanceError
        from conformance.loading import opened
        from conformance_adapters.keras_own import own

        known = own(layer)
        if known is None or not _concrete([args, dict(kwargs), returned]):
            return
        name = type(layer).__name__
        self.counts[self.test] += 1
        title = f"{self.test}#{self.counts[self.test]} {name}"
        live = opened(layer, f"keras-{self.backend}")
        try:
            part = live._part("", layer, args, kwargs)  # type: ignore[attr-defined]
            if part.subject is None:
                self._found(title, name, "unsupported", part.unsupported)
                return
            case, _ = Checked(part.subject, part.layer, part.inputs, dtype=part.subject.dtype).judged()
        except ConformanceError as error:
            self._found(title, name, "refused", str(error))
            return
        self._found(title, name, case.status, _told(case))
        if not part.path.strip():
            first = returned[0] if isinstance(returned, list | tuple) else returned
            self.made.append((first, title, (part, oracle(part))))

    def _expect(self, actual: Any, desired: Any) -> None:
        """A value that a test expects, held against what the oracle has where the value is a layer's."""
        from conformance.figures import compare
        from conformance.precision import PRECISIONS

        if not isinstance(desired, list | tuple | float | int | np.ndarray):
            return  # what another call has given
        for made, title, (part, output) in self.made:
            if actual is not made:
                continue
            expected = np.asarray(desired, dtype=np.float64)
            same = _shaped(output, expected.shape, part)
            if same is None:
                self._found(title + EXPECTED, title.split()[-1], "refused", "its shape is not the canonical output's")
                continue
            error, unit = same.value - expected, _half_a_unit(desired)
            rounded = PRECISIONS[part.subject.dtype or "float32"].round(expected)
            nearest = np.where(np.abs(error) <= unit, same.value, rounded + np.clip(error, -unit, unit))
            figures = compare(same, nearest)
            status = "conforms" if figures.conforms else "diverges"
            self._found(title + EXPECTED, title.split()[-1], status, f"{figures.ratio:.3g} tolerances")

    def _found(self, title: str, layer: str, status: str, message: str | None) -> None:
        self.found.append(Judged(title, layer, status, message or "", self.backend))


def tests(paths: list[str]) -> Iterator[unittest.TestCase]:
    """Keras's own tests of layers, in files whose path has one of `paths` in it."""
    spec = find_spec("keras")
    if spec is None or spec.origin is None:
        raise SystemExit("Keras is not installed: pip install 'conformance[tensorflow]'")
    root = Path(spec.origin).parent / "src" / "layers"
    for file in sorted(f for family in FAMILIES for f in (root / family).glob("*_test.py")):
        path = f"{file.parent.name}/{file.stem}"
        if not any(p in path for p in paths):
            continue
        try:
            module = importlib.import_module(f"keras.src.layers.{file.parent.name}.{file.stem}")
        except ModuleNotFoundError as error:  # of Keras's own development
            print(f"{path} is left out: {error}", file=sys.stderr)
            continue
        for test in _flat(unittest.defaultTestLoader.loadTestsFromModule(module)):
            if not any(word in test.id().rpartition(".")[2].lower() for word in LEFT_OUT):
                yield test


def _flat(suite: Any) -> Iterator[unittest.TestCase]:
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from _flat(one)
        else:
            yield one


def called_once(
    test: Any,
    layer_cls: Any,
    init_kwargs: Mapping[str, Any],
    input_shape: Any = None,
    input_dtype: Any = None,
    input_data: Any = None,
    call_kwargs: Mapping[str, Any] | None = None,
    expected_output: Any = None,
    input_sparse: bool = False,
    input_ragged: bool = False,
    **others: Any,
) -> None:
    """In place of Keras's `run_layer_test`, which serialises and trains too: the layer, made and called once."""
    if input_sparse or input_ragged or (input_shape is None and input_data is None):
        return
    layer = layer_cls(**init_kwargs)
    data = _drawn(input_shape, input_dtype) if input_data is None else input_data
    given = call_kwargs or {}
    returned = layer(**data, **given) if isinstance(data, dict) else layer(data, **given)
    if expected_output is not None:
        test.assertAllClose(returned, expected_output)


def _drawn(shape: Any, dtype: Any) -> Any:
    """Seeded normal numbers, or zeros and ones where whole ones are asked for, in the structure of `shape`."""
    if isinstance(shape, dict):
        return {n: _drawn(s, dtype[n] if isinstance(dtype, dict) else dtype) for n, s in shape.items()}
    if shape and isinstance(shape[0], list | tuple):
        each = dtype if isinstance(dtype, list | tuple) else [dtype] * len(shape)
        return [_drawn(s, d) for s, d in zip(shape, each, strict=True)]
    random = np.random.default_rng(sum(shape))
    if dtype is not None and "float" not in str(dtype):
        return random.integers(0, 2, shape).astype(dtype)
    return random.normal(size=shape).astype(dtype or "float32")


def _concrete(values: Any) -> bool:
    """Whether these are values, and no stand-ins for them, of which a graph is made."""
    import keras

    flat = keras.tree.flatten(values)
    return not any(isinstance(v, keras.KerasTensor) for v in flat)


def oracle(part: Any) -> RoundedArray:
    """What the canonical layer gives for the config, weights and inputs of a call."""
    from conformance.flow import Flow
    from conformance.layers import get_layer
    from conformance.model import RoundingModel
    from conformance.precision import PRECISIONS

    own, number = part.subject.own(), PRECISIONS[part.subject.dtype or "float32"]
    layer = get_layer(own.layer, own.config)
    weights = {n: number.round(np.asarray(a, np.float64)) for n, a in own.weights.items()}
    inputs = {n: number.round(a) for n, a in part.inputs.items()}
    flow = Flow.bind(layer, layer.complete(own.config), inputs, weights, where=part.layer)
    *_, (_, output) = flow.run(RoundingModel(number))
    return output


def _shaped(output: RoundedArray, shape: tuple[int, ...], part: Any) -> RoundedArray | None:
    """The oracle's output in the axes of Keras's, which leaves out axes of one, or all time steps but the last."""
    if output.shape == shape:
        return output
    if part.layer in ("lstm", "gru", "simple_rnn") and output.shape[::2] == shape:
        is_reverse = part.subject.own().config.get("direction") == "reverse"
        return output[:, 0] if is_reverse else output[:, -1]
    if [n for n in output.shape if n != 1] == [n for n in shape if n != 1]:
        return output.reshape(shape)
    return None


def _half_a_unit(desired: Any) -> float:
    """Half a unit of the last digit to which a test has written its numbers: none where they were computed."""
    if str(getattr(desired, "dtype", "float64")) != "float64":
        return 0.0
    digits = [len(repr(float(v)).partition("e")[0].partition(".")[2]) for v in np.ravel(desired)]
    places = max(digits, default=0)
    return 0.5 * 10.0**-places if places <= PRINTED else 0.0


def _told(case: Any) -> str:
    return str(case.message) if case.status in ("unsupported", "error") else told(case)


if __name__ == "__main__":
    sys.exit(main())
