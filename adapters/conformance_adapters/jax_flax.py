"""The adapter for JAX and Flax: their own layers, and a tape read off the jaxpr."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from conformance.adapter import EAGER
from conformance_adapters.exporting import FlaxExporting
from conformance_adapters.jax_cache import keep_compiled
from conformance_adapters.jax_modes import JIT, run_jitted
from conformance_adapters.subject import FrameworkAdapter, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.subject import Live
    from conformance.trace import Entry, Request


class JaxAdapter(FlaxExporting, FrameworkAdapter):
    """JAX's own functions, and the modules of flax.nnx and flax.linen."""

    name = "jax"
    requires = ("jax", "flax")
    install = "pip install 'conformance[jax]'"
    modes = (EAGER, JIT)

    @cached_property
    def table(self) -> Sequence[type[Subject]]:
        """The subjects, imported when they are asked for: `list` names adapters and needs none."""
        from conformance_adapters import (
            flax_convolution,
            flax_layers,
            flax_lstm,
            flax_normalization,
            flax_pooling,
            flax_resize,
            flax_shape,
            jax_activation,
            jax_attention,
        )
        from conformance_adapters.flax_bidirectional import SUBJECTS as BIDIRECTIONAL
        from conformance_adapters.flax_depthwise import SUBJECTS as DEPTHWISE
        from conformance_adapters.flax_recurrent import SUBJECTS as RECURRENT
        from conformance_adapters.flax_transposed import SUBJECTS as TRANSPOSED

        return (
            *jax_attention.SUBJECTS,
            *flax_layers.SUBJECTS,
            *flax_convolution.SUBJECTS,
            *DEPTHWISE,
            *TRANSPOSED,
            *jax_activation.SUBJECTS,
            *flax_normalization.SUBJECTS,
            *flax_lstm.SUBJECTS,
            *RECURRENT,
            *BIDIRECTIONAL,
            *flax_pooling.SUBJECTS,
            *flax_shape.SUBJECTS,
            *flax_resize.SUBJECTS,
        )

    def owns(self, subject: Any) -> bool:
        """A module of Flax, a linen module with its variables, a function that JAX made, or a pytree that is called."""
        from conformance_adapters.jax_live import owns

        return owns(subject)

    def open(self, subject: Any) -> Live:
        """What a user hands over, ready to be run."""
        from conformance_adapters.jax_live import opened

        return opened(subject)

    def start(self) -> Mapping[str, str]:
        """Import JAX and Flax, let JAX have float64, and return the versions."""
        import flax
        import jax
        import jaxlib

        jax.config.update("jax_enable_x64", True)
        keep_compiled()
        return {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "flax": flax.__version__}

    def to_numpy(self, tensor: Any) -> NDArray[Any]:
        """A copy in the array's own dtype; bfloat16 as float32."""
        from conformance_adapters.jax_tape import to_numpy

        return to_numpy(tensor)

    def plain(self, subject: Subject, request: Request) -> Any:
        """Operation by operation, or as one jitted program."""
        return run_jitted(subject) if request.mode == JIT else subject()

    def record(self, subject: Callable[[], Any], request: Request) -> tuple[Any, Sequence[Entry]]:
        """Evaluate the subject's jaxpr one equation at a time."""
        from conformance_adapters.jax_tape import record

        return record(subject)
