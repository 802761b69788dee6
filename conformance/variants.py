"""What may be tried at a step: the values that its conventions may take, from the vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conformance.conventions import CONFIG, NUMBER, by_keyword

if TYPE_CHECKING:
    from conformance.conventions import Convention
    from conformance.flow import Flow

PRECISION = "arithmetic_precision"
MISMATCH = {"weights_mismatch": "different weights"}

# The forms of one value: what is after the colon tells the oracle apart what a person calls by one name.
_FORMS = {
    ("attention_qkv_packing", "per-head q|k|v"): ("", ":stored"),
    ("attention_qkv_packing", "per-feature q|k|v"): ("", ":stored"),
    ("conv_kernel_layout", "out,in,spatial"): ("", ":stored"),
    ("bilinear_kernel_layout", "out,first,second"): ("", ":stored"),
    ("conv_multiplier_order", "multiplier,in"): ("", ":stored"),
    ("conv_transpose_kernel_layout", "in,out,spatial"): ("", ":stored"),
    (PRECISION, "tf32"): ("", ":cut"),
    (PRECISION, "bfloat16"): ("", ":fused", ":operands"),
    (PRECISION, "float32"): (),  # its errors are not reproduced by casts: a float64 trace is judged as float32 instead
    (PRECISION, "float16-accumulate"): (),  # they depend on the order of the sum
}

# What a config entry asks for, where it has other words for it than the convention.
_ASKED = {
    ("conv_transpose_padding", "same-upper"): "crop-upper",
    ("conv_transpose_padding", "same-lower"): "crop-lower",
    ("pool_ceil_mode", False): "floor",
    ("pool_ceil_mode", True): "ceil",
    ("pool_count_include_pad", False): "exclude",
    ("pool_count_include_pad", True): "include",
    ("resize_antialias", False): "off",
    ("resize_antialias", True): "on",
    ("resize_cubic_coefficient", -0.5): "-0.5",
    ("resize_cubic_coefficient", -0.75): "-0.75",
}


def said(value: Any) -> str:
    """A value as it is reported: without its form."""
    return str(value).partition(":")[0]


def alternatives(flow: Flow, keyword: str) -> list[Any]:
    """The values other than the one in force that a convention may take, those that stand for any number aside."""
    convention = by_keyword(keyword)
    if convention is None:
        return []
    values = [v.value for v in convention.variants if v.kind in ("replay", "weights") and v.value != NUMBER]
    in_force = _asked(keyword, flow.config.get(convention.config))
    if not convention.canonical.startswith("<") and CONFIG in _defaults(flow, keyword):
        values = [v for v in (convention.canonical, *values) if v != in_force]
    return [value + form for value in values for form in _FORMS.get((keyword, value), ("",))]


def asked(flow: Flow, step: str, convention: Convention) -> str:
    """The choice that was asked for at `step`: what the config says, where it has a say, or the canonical one."""
    prefix = _part(step)
    config = {name.removeprefix(prefix): value for name, value in flow.config.items() if name.startswith(prefix)}
    options = [config, *(value for value in config.values() if isinstance(value, dict))]  # `rotary` has its own
    value = next((o[convention.config] for o in options if o.get(convention.config) is not None), None)
    value = _asked(convention.keyword, value)
    number = isinstance(value, int | float) and is_numeric(convention.keyword)
    if value is not None and (convention.canonical == CONFIG or number or isinstance(value, str)):
        return str(value)
    return convention.canonical


def _asked(keyword: str, value: Any) -> Any:
    return _ASKED.get((keyword, value), value) if isinstance(value, bool | str | float) else value


def layer_at(flow: Flow, step: str) -> str:
    """The layer that has `step`: in a composite, that of the part."""
    part = _part(step).rstrip(".")
    return next((p["layer"] for p in flow.config.get("parts", ()) if p["name"] == part), flow.layer.name)


def _part(step: str) -> str:
    return step[: step.rfind(".") + 1]


def precisions(keyword: str) -> list[Any]:
    """The coarser arithmetics that can be emulated, where `keyword` is the convention about it."""
    convention = by_keyword(keyword) if keyword == PRECISION else None
    values = [] if convention is None else [v.value for v in convention.variants]
    return [value + form for value in values for form in _FORMS[keyword, value]]


def is_numeric(keyword: str) -> bool:
    """Whether a convention may take any number."""
    convention = by_keyword(keyword)
    return convention is not None and any(v.value == NUMBER for v in convention.variants)


def rearranges(keyword: str) -> bool:
    """Whether a convention is about where the weights stand."""
    convention = by_keyword(keyword)
    return convention is not None and convention.kind == "weights"


def of_each_step(keyword: str) -> bool:
    """Whether a convention may hold in one step and not in another: weights and arithmetic are each step's own."""
    return keyword == PRECISION or rearranges(keyword)


def _defaults(flow: Flow, keyword: str) -> set[Any]:
    return {step.conventions[keyword] for step in flow.steps if keyword in step.conventions}
