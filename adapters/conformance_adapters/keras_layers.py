"""Keras's own layers, on each of its three back ends.

One process has one Keras back end: it is chosen by an environment variable that Keras reads on its first import.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.adapter import EAGER
from conformance.errors import ConformanceError, Unsupported
from conformance_adapters.exporting import KerasExporting
from conformance_adapters.jax_cache import keep_compiled
from conformance_adapters.jax_modes import JIT
from conformance_adapters.keras_activation import SUBJECTS as ACTIVATIONS
from conformance_adapters.keras_additive_attention import SUBJECTS as ADDITIVE_ATTENTION
from conformance_adapters.keras_attention import (
    DotProductAttention,
    GroupQueryAttention,
    MultiHeadAttention,
    ProjectedDotProductAttention,
)
from conformance_adapters.keras_convolution import SUBJECTS as CONVOLUTIONS
from conformance_adapters.keras_depthwise import SUBJECTS as DEPTHWISE
from conformance_adapters.keras_elementary import Dense, Gelu, LayerNormalization, Softmax
from conformance_adapters.keras_modes import run_jitted
from conformance_adapters.keras_normalization import SUBJECTS as NORMALIZATION
from conformance_adapters.keras_pooling import SUBJECTS as POOLING
from conformance_adapters.keras_recurrent import SUBJECTS as RECURRENT
from conformance_adapters.keras_resize import SUBJECTS as RESIZE
from conformance_adapters.keras_shape import SUBJECTS as SHAPE
from conformance_adapters.keras_stacked import SUBJECTS as STACKED
from conformance_adapters.keras_subject import KerasSubject, to_numpy
from conformance_adapters.keras_transposed import SUBJECTS as TRANSPOSED
from conformance_adapters.subject import FrameworkAdapter
from conformance_adapters.tensorflow_modes import GRAPH, XLA, run_traced
from conformance_adapters.torch_modes import COMPILE, run_compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.subject import Live
    from conformance.trace import Entry, Request, Trace


SUBJECTS: tuple[type[KerasSubject], ...] = (
    MultiHeadAttention,
    GroupQueryAttention,
    ProjectedDotProductAttention,
    DotProductAttention,
    *ADDITIVE_ATTENTION,
    Dense,
    LayerNormalization,
    *NORMALIZATION,
    Softmax,
    Gelu,
    *ACTIVATIONS,
    *RECURRENT,
    *STACKED,
    *CONVOLUTIONS,
    *DEPTHWISE,
    *TRANSPOSED,
    *POOLING,
    *SHAPE,
    *RESIZE,
)


class KerasAdapter(KerasExporting, FrameworkAdapter):
    """Keras on `backend`."""

    backend: ClassVar[str]

    def start(self) -> Mapping[str, str]:
        """Import Keras on this back end and return the versions.

        Raises ConformanceError where the process already has Keras on another one.
        """
        self.prepare()
        return self.versions()

    def prepare(self) -> None:
        """Import Keras on this back end. Raises ConformanceError where the process has it on another one."""
        if "keras" not in sys.modules:
            os.environ["KERAS_BACKEND"] = self.backend
        self.backend_versions()  # before Keras, which imports the back end itself
        import keras

        if keras.backend.backend() != self.backend:
            raise ConformanceError(
                f"{self.name}: this process has Keras on {keras.backend.backend()} already, "
                "and one process has one Keras back end; run it in a process of its own"
            )

    def versions(self) -> Mapping[str, str]:
        """The versions of Keras and its back end."""
        import keras

        return {"keras": keras.__version__, **self.backend_versions()}

    def backend_versions(self) -> Mapping[str, str]:
        """The versions of what Keras runs on."""
        raise NotImplementedError

    def to_numpy(self, tensor: Any) -> NDArray[Any]:
        """A copy of the tensor as a NumPy array; bfloat16 as float32."""
        return to_numpy(tensor)

    def run(self, request: Request) -> Trace:
        """Build the layer, read its weights back, run it plain, run it observed.

        Raises Unsupported where the back end says that it has no such thing.
        """
        with self.inference():
            return super().run(request)

    def plain(self, subject: Any, request: Request) -> Any:
        """Eagerly, or compiled."""
        subject.prepare()
        return subject() if request.mode == EAGER else self.compiled(subject, request.mode)

    def compiled(self, subject: KerasSubject, mode: str) -> Any:
        """What `subject` gives in one of the back end's own modes."""
        raise NotImplementedError

    def record(self, subject: Callable[[], Any], request: Request) -> tuple[Any, Sequence[Entry]]:
        """Call the subject's observed form while watching it."""
        return self.watch(subject.observed(), decomposed=request.decomposed)

    def watch(self, function: Callable[[], Any], decomposed: bool, loops: bool = False) -> tuple[Any, Sequence[Entry]]:
        """Call `function` while watching it. `loops`: recurrent layers of Keras may be anywhere in it."""
        raise NotImplementedError

    def untraceable(self) -> tuple[type[Exception], ...]:
        """What watching raises where a function runs, and yet cannot be watched."""
        return ()

    def owns(self, subject: Any) -> bool:
        """A layer, model or function of Keras where it is on this back end; a `.keras` file where it would be."""
        if isinstance(subject, Path):
            return subject.suffix == ".keras" and self.backend == _backend()
        of = subject if inspect.isfunction(subject) else type(subject)
        roots = {c.__module__.partition(".")[0] for c in getattr(of, "__mro__", (of,)) if c.__module__}
        return "keras" in roots and callable(subject) and self.backend == _backend()

    def open(self, subject: Any) -> Live:
        """A layer, a model, the file of one, or a plain function of tensors.

        Raises ConformanceError where it is none of these, or where the process has Keras on another back end.
        """
        from conformance_adapters.keras_live import opened

        self.prepare()
        return opened(subject, self)

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """What the back end needs to be told to compute in `dtype`."""
        return nullcontext()

    def is_symbolic(self, tensor: Any) -> bool:
        """Whether a tensor has no values, because the back end is only tracing."""
        return False

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, and the back end's own 'not implemented' as Unsupported."""
        try:
            yield
        except NotImplementedError as error:
            raise Unsupported(f"{self.name}: {error}") from error


class KerasOnTensorFlow(KerasAdapter):
    """Keras on TensorFlow."""

    name = "keras-tensorflow"
    backend = "tensorflow"
    requires = ("keras", "tensorflow")
    install = "pip install 'conformance[tensorflow]'"
    modes = (EAGER, GRAPH, XLA)
    table = tuple(s.on("tensorflow") for s in SUBJECTS)

    def backend_versions(self) -> Mapping[str, str]:
        """TensorFlow's version."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow

        return {"tensorflow": tensorflow.__version__}

    def compiled(self, subject: KerasSubject, mode: str) -> Any:
        """As a graph, or compiled by XLA."""
        return run_traced(subject, mode)

    def untraceable(self) -> tuple[type[Exception], ...]:
        """What the kernels refuse that XLA compiles, such as groups along three axes."""
        from tensorflow import errors

        return (errors.InvalidArgumentError, errors.UnimplementedError)

    def watch(self, function: Callable[[], Any], decomposed: bool, loops: bool = False) -> tuple[Any, Sequence[Entry]]:
        """Run the function as a graph of which every tensor is fetched, in which a loop would be one operation."""
        from conformance_adapters.keras_recurrent import unrolled
        from conformance_adapters.tensorflow_eager import watched

        return watched(unrolled(function) if loops else function)

    def is_symbolic(self, tensor: Any) -> bool:
        """Whether the tensor is one of a graph."""
        import tensorflow

        return bool(tensorflow.is_tensor(tensor) and tensorflow.is_symbolic_tensor(tensor))

    @contextmanager
    def inference(self) -> Iterator[None]:
        """TensorFlow's 'no such kernel' as Unsupported."""
        from conformance_adapters.tensorflow_ops import missing_kernels

        with super().inference(), missing_kernels(self.name):
            yield


class KerasOnJax(KerasAdapter):
    """Keras on JAX."""

    name = "keras-jax"
    backend = "jax"
    requires = ("keras", "jax")
    install = "pip install keras 'conformance[jax]'"
    modes = (EAGER, JIT)
    table = tuple(s.on("jax") for s in SUBJECTS)

    def start(self) -> Mapping[str, str]:
        """Import Keras on JAX; float64 is switched on, which JAX has off by default."""
        import jax

        jax.config.update("jax_enable_x64", True)
        keep_compiled()
        return super().start()

    def backend_versions(self) -> Mapping[str, str]:
        """JAX's version."""
        import jax

        return {"jax": jax.__version__}

    def compiled(self, subject: KerasSubject, mode: str) -> Any:
        """As one jitted program."""
        return run_jitted(subject)

    def watch(self, function: Callable[[], Any], decomposed: bool, loops: bool = False) -> tuple[Any, Sequence[Entry]]:
        """Run the function equation by equation; loops are taken apart."""
        from conformance_adapters.jax_tape import record

        return record(function)

    def untraceable(self) -> tuple[type[Exception], ...]:
        """JAX's refusal to give a traced value to Python or NumPy."""
        import jax

        return (jax.errors.JAXTypeError,)

    def precision(self, dtype: str) -> AbstractContextManager[None]:
        """float64 switched on for the time of a run."""
        import jax

        if dtype != "float64":
            return nullcontext()
        if hasattr(jax, "enable_x64"):
            return jax.enable_x64(True)
        from jax.experimental import enable_x64

        return enable_x64()

    def is_symbolic(self, tensor: Any) -> bool:
        """Whether the tensor stands for one of a trace."""
        import jax

        return isinstance(tensor, jax.core.Tracer)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """JAX's 'not supported on CPU' as Unsupported: float16 attention, say, which Keras survives and a trace not.

        So is its refusal of a loop whose state changes its dtype, as that of Keras's float64 SimpleRNN does.
        """
        with super().inference():
            try:
                yield
            except TypeError as error:
                if "carry input and carry output must have equal types" not in str(error):
                    raise
                raise Unsupported(f"{self.name}: JAX scans no cell whose state comes out in another dtype") from error
            except ValueError as error:
                if "is not supported by" not in str(error):
                    raise
                raise Unsupported(f"{self.name}: {error}") from error


class KerasOnTorch(KerasAdapter):
    """Keras on PyTorch."""

    name = "keras-torch"
    backend = "torch"
    requires = ("keras", "torch")
    install = "pip install keras 'conformance[torch]'"
    modes = (EAGER, COMPILE)
    table = tuple(s.on("torch") for s in SUBJECTS)

    def backend_versions(self) -> Mapping[str, str]:
        """PyTorch's version."""
        import torch

        return {"torch": torch.__version__}

    def compiled(self, subject: KerasSubject, mode: str) -> Any:
        """Through torch.compile."""
        return run_compiled(subject, subject.name)

    def watch(self, function: Callable[[], Any], decomposed: bool, loops: bool = False) -> tuple[Any, Sequence[Entry]]:
        """Run the function under a dispatch mode that sees every operation."""
        from conformance_adapters.torch_tape import record

        return record(function, decomposed=decomposed)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Without gradients, as `Model.predict` runs."""
        import torch

        with super().inference(), torch.no_grad():
            yield


def _backend() -> str | None:
    """The back end that Keras is on in this process, or else would be on: that of the environment variable, or the
    first that is installed."""
    keras = sys.modules.get("keras")
    if keras is not None:
        return str(keras.backend.backend())
    installed = (name for name in ("tensorflow", "jax", "torch") if find_spec(name) is not None)
    return os.environ.get("KERAS_BACKEND") or next(installed, None)
