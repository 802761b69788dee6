"""The command `conformance`: what it says of errors, and the exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from conformance.errors import ConformanceError
from conformance.options import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `conformance`: errors are one sentence on standard error, and exit code 2."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in words
    try:
        words = [w for w in words if w != "--debug"]
        options = parser().parse_args(words or ["--help"], argparse.Namespace(words=words, alone=arguments is None))
        done: int = options.function(options)
        sys.stdout.flush()
        return done
    except ConformanceError as error:
        if debug:
            raise
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(": ".join(("conformance", "interrupted", *map(str, error.args))), file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (`head`, a pager) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # a fault of this program or of a plug-in, not of its user
        if debug:
            raise
        said = f"{type(error).__name__}: {error}"
        print(f"conformance: {said}; this is a fault of the program or a plug-in, --debug shows where", file=sys.stderr)
        return 3
