"""One field of an ONNX model changed, through protobuf's own reflection."""

from __future__ import annotations

from random import Random
from typing import Any

INTEGERS = [0, 1, -1, 2, 7, 16, 2**31 - 1, 2**40, 2**62, 2**63 - 1, -(2**63)]
TEXTS = ["", "x", "../escaped", "/escaped", "\x1b[31m", "a" * 3000, "Loop", "If", "ConstantOfShape", "Expand", "Tile"]
TEXTS += [
    "com.microsoft",
    "ai.onnx.ml",
    "Attention",
    "LSTM",
    "Scan",
    "Identity",
    "Reshape",
    "MatMul",
    "location",
    "value",
]


def changed(random: Random, content: bytes) -> bytes:
    """The model with one value of one message changed, added, removed or taken twice."""
    from onnx import ModelProto

    model = ModelProto()
    model.ParseFromString(content)
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        for field in message.DESCRIPTOR.fields:
            places.append((message, field))
        for field, held in message.ListFields():
            if field.message_type is not None:
                waiting += list(held) if hasattr(held, "__len__") and not hasattr(held, "DESCRIPTOR") else [held]
    for _ in range(random.choice((1, 1, 2, 4))):
        message, field = random.choice(places)
        held = getattr(message, field.name)
        repeated = hasattr(held, "append")
        kind = random.randrange(5)
        if kind == 0:
            message.ClearField(field.name)
        elif field.message_type is not None:
            if repeated and len(held):
                held.add().CopyFrom(random.choice(list(held)))
                if kind == 1:
                    del held[random.randrange(len(held))]
            elif not repeated:
                held.SetInParent()
        else:
            new = _scalar(random, field)
            if not repeated:
                setattr(message, field.name, new)
            elif len(held) and kind < 3:
                held[random.randrange(len(held))] = new
            else:
                held.append(new)
    made: bytes = model.SerializePartialToString()
    return made


def _scalar(random: Random, field: Any) -> Any:
    kinds = {1: "f", 2: "f", 9: "s", 12: "b"}
    kind = kinds.get(field.type, "i")
    if kind == "f":
        return random.choice((0.0, float("nan"), float("inf"), -1e30))
    if kind == "s":
        return random.choice(TEXTS)
    if kind == "b":
        return random.choice((b"", b"\0" * 7, b"x" * 64, random.choice(TEXTS).encode()))
    if field.type == 14:
        return random.choice([v.number for v in field.enum_type.values])
    limit = 2**31 if field.type in (5, 17, 15) else 2**63
    number = random.choice(INTEGERS)
    if field.type in (4, 13):
        return abs(number) % 2**32
    return max(-limit, min(limit - 1, number))
