"""What can go wrong, in words for the user: one sentence that says what, where, and what to do next."""


class ConformanceError(Exception):
    """Bad usage or bad input. The message is shown as it is, and the command exits with 2."""


class DoesNotFit(ConformanceError, ValueError):
    """Arrays whose sizes do not go together in a step. The message says which."""


class Unsupported(Exception):
    """The framework has no such layer, dtype or option. The message says which."""
