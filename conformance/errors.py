"""What can go wrong, in words for the user: one sentence that says what, where, and what to do next."""

_LONGEST = 1000  # characters of a message: names in it, and what a library said, may come from any file


class ConformanceError(Exception):
    """Bad usage or bad input. The message is shown as one line, and the command exits with 2.

    What no terminal should get (control characters, line breaks, halves of a surrogate pair) is escaped, and the
    middle of what is too long left out.
    """

    def __init__(self, message: str = "") -> None:
        said = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(message))
        if len(said) > _LONGEST:
            said = f"{said[: _LONGEST - 300]} [...] {said[-295:]}"
        super().__init__(said)


class DoesNotFit(ConformanceError, ValueError):
    """Arrays whose sizes do not go together in a step. The message says which."""


class Unsupported(Exception):
    """The framework has no such layer, dtype or option. The message says which."""
