"""TensorFlow's own activations, a row of a table each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from conformance_adapters.tensorflow_subject import TensorFlowSubject


class Activation(TensorFlowSubject):
    """`tf.<module>.<function>`; `named` maps the config's names to the function's for the same."""

    module: ClassVar[str]
    function: ClassVar[str]
    named: ClassVar[Mapping[str, str]] = {}

    def __call__(self) -> Any:
        """The activation of every element."""
        import tensorflow as tf

        options: dict[str, Any] = {}
        for name, own in self.named.items():
            options |= self.request.given(name, **{own: self.config[name]})
        return getattr(getattr(tf, self.module), self.function)(self.given["x"], **options)


def _function(path: str, layer: str = "", only: Mapping[str, Any] | None = None, **named: str) -> type[Activation]:
    """`tf.<path>`, whose options are `named`; `only` has the values of config entries for which it has no option."""
    module, function = path.split(".")
    options = {**dict.fromkeys(named), **{name: (value,) for name, value in (only or {}).items()}}
    made = {"name": f"tf.{path}", "layer": layer or function, "module": module, "function": function, "named": named}
    return type(function, (Activation,), {**made, "options": options, "__doc__": f"`tf.{path}`."})


SUBJECTS = (
    _function("nn.relu"),
    _function("nn.leaky_relu", slope="alpha"),
    _function("nn.elu", only={"alpha": 1.0}),
    _function("nn.selu"),
    _function("nn.silu"),
    _function("nn.sigmoid"),
    _function("math.log_sigmoid"),
    _function("nn.tanh"),
    _function("nn.softplus"),
    _function("nn.softsign"),
    _function("nn.relu6"),
    _function("nn.log_softmax", axis="axis"),
)
