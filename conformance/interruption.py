"""Ctrl-C and SIGTERM: one exception, once, so that what a run holds is let go in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible(*, ending: bool = False) -> Iterator[None]:
    """Within it the first SIGINT or SIGTERM raises KeyboardInterrupt; later ones do nothing.

    An impatient second Ctrl-C would else leave the work half-ended: workers that live on, files half-moved. With
    `ending`, where the process comes to its end after that, they do nothing until then. Outside of the main thread,
    where Python takes no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        for number in _SIGNALS:
            if before[number] not in (signal.SIG_IGN, None):  # nohup, a shell's background job; another language's
                signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and not (interrupted and ending):
                signal.signal(number, handler)
