"""TensorFlow's own operations, without Keras. It has no attention."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.adapter import EAGER
from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance_adapters.subject import FrameworkAdapter, Subject
from conformance_adapters.tensorflow_activation import SUBJECTS as ACTIVATIONS
from conformance_adapters.tensorflow_convolution import SUBJECTS as CONVOLUTIONS
from conformance_adapters.tensorflow_depthwise import SUBJECTS as DEPTHWISE
from conformance_adapters.tensorflow_modes import GRAPH, XLA, run_traced
from conformance_adapters.tensorflow_normalization import SUBJECTS as NORMALIZATION
from conformance_adapters.tensorflow_pooling import SUBJECTS as POOLING
from conformance_adapters.tensorflow_resize import SUBJECTS as RESIZE
from conformance_adapters.tensorflow_shape import SUBJECTS as SHAPE
from conformance_adapters.tensorflow_subject import TensorFlowSubject
from conformance_adapters.tensorflow_tape import record, to_numpy
from conformance_adapters.tensorflow_transposed import SUBJECTS as TRANSPOSED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.subject import Live
    from conformance.trace import Entry, Request, Trace


class Linear(TensorFlowSubject):
    """`tf.linalg.matmul`, and `tf.nn.bias_add` where there is a bias."""

    name = "tf.linalg.matmul+tf.nn.bias_add"
    layer = "linear"
    weight_names = ("kernel", "bias")
    parameters = (Parameter("kernel", "kernel", "channel out -> channel out"), Parameter("bias", "bias", "out -> out"))

    def __call__(self) -> Any:
        """The output, `... out`."""
        import tensorflow as tf

        product = tf.linalg.matmul(self.given["x"], self.variables["kernel"])
        return tf.nn.bias_add(product, self.variables["bias"]) if "bias" in self.variables else product


class Softmax(TensorFlowSubject):
    """`tf.nn.softmax`."""

    name = "tf.nn.softmax"
    layer = "softmax"
    options: ClassVar = {"axis": None}

    def __call__(self) -> Any:
        """The softmax along the configured axis."""
        import tensorflow as tf

        return tf.nn.softmax(self.given["x"], **self.request.given("axis", axis=self.config["axis"]))


class Gelu(TensorFlowSubject):
    """`tf.nn.gelu`."""

    name = "tf.nn.gelu"
    layer = "gelu"
    options: ClassVar = {"approximation": ("none", "tanh")}

    def __call__(self) -> Any:
        """The activation of every element."""
        import tensorflow as tf

        tanh = self.config["approximation"] == "tanh"
        return tf.nn.gelu(self.given["x"], **self.request.given("approximation", approximate=tanh))


class LayerNorm(TensorFlowSubject):
    """`tf.nn.moments` over the trailing axes, then `tf.nn.batch_normalization`, which only applies them."""

    name = "tf.nn.moments+tf.nn.batch_normalization"
    layer = "layer_norm"
    weight_names = ("scale", "bias")
    options: ClassVar = {"axes": None, "epsilon": None}
    parameters = (Parameter("scale", "scale", "... -> ..."), Parameter("offset", "bias", "... -> ..."))

    def __call__(self) -> Any:
        """The normalised input, scaled and shifted."""
        import tensorflow as tf

        x = self.given["x"]
        mean, variance = tf.nn.moments(x, list(range(-self.config["axes"], 0)), keepdims=True)
        offset, scale = self.variables.get("offset"), self.variables.get("scale")
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, self.config["epsilon"])


class BlockLSTM(TensorFlowSubject):
    """`tf.raw_ops.BlockLSTMV2`, whose gate order is the canonical one, and which has no forget bias of its own.

    Its kernel holds both canonical kernels, one above the other.
    """

    name = "tf.raw_ops.BlockLSTMV2"
    layer = "lstm"
    inputs = ("x", "initial_hidden", "initial_cell")
    weight_names = ("kernel", "recurrent_kernel", "bias")
    options: ClassVar = {
        "layers": (1,),
        "direction": ("forward", "reverse"),
        "merge": None,
        "activation": ("tanh",),
        "recurrent_activation": ("sigmoid",),
    }
    parameters = (
        Parameter("w_input", "kernel", "channel (gate unit) -> channel (gate unit)", order={"gate": (0, 1, 2, 3)}),
        Parameter(
            "w_hidden", "recurrent_kernel", "hidden (gate unit) -> hidden (gate unit)", order={"gate": (0, 1, 2, 3)}
        ),
        Parameter("b", "bias", "(gate unit) -> (gate unit)", order={"gate": (0, 1, 2, 3)}),
    )

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """It is for two formats only."""
        known = ("float32", "float16")
        return None if request.dtype in known else f"computes in {' and '.join(known)} only"

    def complete(self, request: Request) -> Mapping[str, NDArray[Any]]:
        """The weights; the operation always has a bias, zero where there is none."""
        kernel = request.weights["kernel"]
        return {"bias": np.zeros(kernel.shape[1]), **request.weights}

    def __call__(self) -> Any:
        """The output, `batch time unit` in input time order."""
        import tensorflow as tf

        x = tf.transpose(self.given["x"], (1, 0, 2))
        reverse = self.config["direction"] == "reverse"
        x = tf.reverse(x, [0]) if reverse else x
        units = self.variables["w_hidden"].shape[0]
        zeros = tf.zeros((x.shape[1], units), dtype=x.dtype)
        peephole = tf.zeros((units,), dtype=x.dtype)  # read only with use_peephole
        outputs = tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.constant(x.shape[0], dtype=tf.int64),
            x=x,
            cs_prev=self.given.get("initial_cell", zeros),
            h_prev=self.given.get("initial_hidden", zeros),
            w=tf.concat((self.variables["w_input"], self.variables["w_hidden"]), axis=0),
            wci=peephole,
            wcf=peephole,
            wco=peephole,
            b=self.variables["b"],
        )
        hidden = tf.reverse(outputs.h, [0]) if reverse else outputs.h
        return tf.transpose(hidden, (1, 0, 2))


class TensorFlowAdapter(FrameworkAdapter):
    """TensorFlow without Keras."""

    name = "tensorflow"
    requires = ("tensorflow",)
    install = "pip install 'conformance[tensorflow]'"
    modes = (EAGER, GRAPH, XLA)
    table = (
        Linear,
        Softmax,
        Gelu,
        *ACTIVATIONS,
        LayerNorm,
        *NORMALIZATION,
        *CONVOLUTIONS,
        *DEPTHWISE,
        *TRANSPOSED,
        *POOLING,
        *SHAPE,
        *RESIZE,
        BlockLSTM,
    )

    def start(self) -> Mapping[str, str]:
        """Import TensorFlow and return its version."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow

        return {"tensorflow": tensorflow.__version__}

    def to_numpy(self, tensor: Any) -> NDArray[Any]:
        """A copy of the tensor as a NumPy array; bfloat16 as float32."""
        return to_numpy(tensor)

    def plain(self, subject: Subject, request: Request) -> Any:
        """Eagerly, as a graph, or compiled by XLA."""
        return subject() if request.mode == EAGER else run_traced(subject, request.mode)

    def record(self, subject: Callable[[], Any], request: Request) -> tuple[Any, Sequence[Entry]]:
        """Run the subject as a graph of which every tensor is fetched."""
        return record(subject)

    def owns(self, subject: Any) -> bool:
        """A tf.Module, a tf.function, or one of TensorFlow's own functions."""
        from conformance_adapters.tensorflow_live import owns

        return owns(subject)

    def open(self, subject: Any) -> Live:
        """A module, or a function of tensors. Raises ConformanceError for anything else."""
        from conformance_adapters.tensorflow_live import opened

        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        return opened(subject)

    def run(self, request: Request) -> Trace:
        """Build the subject, read its weights back, run it plain, run it observed.

        Raises Unsupported where TensorFlow has no kernel for the dtype or option.
        """
        with missing_kernels(self.name):
            return super().run(request)


_NOT_OFFERED = re.compile(
    r"Value for attr '\w+' of \w+ is not in the list of allowed values: [\w, ]+"
    r"|CPU implementation of \w+ currently only supports [\w ]+"
    r"|Current CPU implementations do not yet support [\w ]+"
)
_NOT_COMPILED = re.compile(r"Detected unsupported operations when trying to compile graph .*?: (.*?) ?\{\{", re.DOTALL)


@contextmanager
def missing_kernels(adapter: str) -> Iterator[None]:
    """TensorFlow's 'no such kernel', 'no such dtype', 'not implemented' and 'XLA cannot compile this' as Unsupported,
    in its words."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.UnimplementedError, tf.errors.NotFoundError) as error:
        raise Unsupported(f"{adapter}: {error.message}") from error
    except tf.errors.InvalidArgumentError as error:
        if (narrow := _NOT_OFFERED.search(error.message)) is not None:
            raise Unsupported(f"{adapter}: {narrow[0].strip()}") from error
        refused = _NOT_COMPILED.match(error.message)
        if refused is None:
            raise
        raise Unsupported(f"{adapter}: XLA: {refused[1]})") from error
