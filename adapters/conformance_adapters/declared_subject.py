"""A subject that declares which canonical names, options and weight layouts it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from conformance.layout import Parameter
    from conformance.trace import Request


class DeclaredSubject:
    """`inputs` and `weight_names` are the canonical names that the subject can take. `options` are the values that it
    can express of a config entry (None: any, or `reason` decides); an entry that is not listed must be None or False.
    `parameters` are the layouts of the framework's own variables.
    """

    name: ClassVar[str]
    layer: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ("x",)
    weight_names: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, Sequence[Any] | None]] = {}
    parameters: ClassVar[Sequence[Parameter]] = ()

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Why the subject cannot express `request`, or None where it can."""
        for kind, given, known in (
            ("input", request.inputs, cls.inputs),
            ("weight", request.weights, cls.weight_names),
        ):
            for name in given:
                if name not in known:
                    return f"has no {kind} {name}"
        for key, value in request.config.items():
            allowed = cls.options.get(key, (None, False))
            if allowed is not None and not any(value is a or value == a for a in allowed):
                return f"cannot express {key}={value!r}"
        return cls.reason(request)

    @classmethod
    def reason(cls, request: Request) -> str | None:
        """What speaks against a request whose names and options are all known."""
        return None
