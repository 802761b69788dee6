"""conformance: do two implementations of a neural-network layer compute the same thing, and if not, where do they part?

`check` puts any subject beside a canonical layer, `check_model` every known layer of a model, `assert_conforms` is for
tests. `diff` puts two models beside one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conformance.checking import assert_conforms, check, check_model
    from conformance.diffing import diff

__version__ = "0.1.0"
__all__ = ["assert_conforms", "check", "check_model", "diff"]


def __getattr__(name: str) -> Any:
    """The functions, imported when they are asked for: the command's `--help` needs none of them."""
    if name == "diff":
        from conformance.diffing import diff

        return diff
    if name in __all__:
        from conformance import checking

        return getattr(checking, name)
    raise AttributeError(f"module 'conformance' has no attribute {name!r}")
