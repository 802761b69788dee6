"""An export as a table: what was mapped, how it was proved, and what was not mapped and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from conformance.weight_file import CANONICAL

if TYPE_CHECKING:
    from rich.console import Console

    from conformance.exporting import Export, Proof, Row


def show(export: Export, console: Console) -> None:
    """Print what became of every layer, and of what is none."""
    mapped = [row for row in export.rows if row.reason is None]
    if mapped:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        target = any(row.target for row in mapped)
        for title in ("layer", "weights", "source", *(["target"] if target else [])):
            table.add_column(title, overflow="fold")
        for row in mapped:
            cells = [_layer(row), _weights(row), _proved(row.source), *([_proved(row.target)] if target else [])]
            table.add_row(*map(escape, cells))
        console.print(table)
    left = [row for row in export.rows if row.reason is not None]
    if left:
        console.print(f"not converted ({len(left)}):")
        for row in left:
            console.print(f"  {escape(row.path or '.')}: {escape(row.reason or '')}", highlight=False, soft_wrap=True)
            for proof in (row.source, row.target):
                if proof is not None and proof.failed:
                    said = f"    {proof.subject}: {proof.status}{f' ({proof.message})' if proof.message else ''}"
                    console.print(escape(said), highlight=False, soft_wrap=True)
    assumed = [row for row in mapped if row.assumed]
    if assumed:
        named = ", ".join(f"{row.path or '.'} ({', '.join(row.assumed)})" for row in assumed)
        console.print(escape(f"not in the file, and proved with 1: {named}; --config gives it"), soft_wrap=True)
    is_folded = [row.path or "." for row in mapped if row.is_folded]
    if is_folded:
        said = f"each gate's two biases are one, their sum, which computes the same: {', '.join(is_folded)}"
        console.print(escape(said), highlight=False, soft_wrap=True)
    if mapped:
        count = f"{export.arrays} array{'s' * (export.arrays != 1)} of {len(mapped)} layer{'s' * (len(mapped) != 1)}"
        layout = "the canonical layout" if export.layout == CANONICAL else f"the layout of {export.layout}"
        console.print(escape(f"{export.output}: {count}, in {layout}"), highlight=False, soft_wrap=True)
    else:
        console.print(escape(f"{export.output} is not written"), highlight=False, soft_wrap=True)


def _layer(row: Row) -> str:
    return f"{row.path}: {row.layer}" if row.path else row.layer


def _weights(row: Row) -> str:
    sizes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in row.weights.items())
    return f"{sizes} ({row.dtype})"


def _proved(proof: Proof | None) -> str:
    if proof is None:
        return "-"
    ratio = "" if proof.ratio is None else f" {proof.ratio:.2g}"
    return f"{proof.subject}: {proof.status.replace('-', ' ')}{ratio}"
