"""What can go wrong, in words for the user: one sentence that says what, where, and what to do next."""


class ConformanceError(Exception):
    """Bad usage or bad input. The message is shown as it is, and the command exits with 2."""


class Unsupported(Exception):
    """The framework has no such layer, dtype or option. The message says which."""
