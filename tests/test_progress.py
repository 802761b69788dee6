"""The command in a terminal of 80 columns, which a test has to open."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("conformance")
COLOURS = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[\d;]*)?m")


def in_a_terminal(*words: str, **environment: str) -> tuple[int, str]:
    """The exit code and everything that a terminal of 80 columns got, standard error included."""
    main, child = pty.openpty()
    ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [COMMAND, *words],
        stdin=child,
        stdout=child,
        stderr=child,
        env={**kept, "TERM": "xterm-256color", **environment},
    )
    os.close(child)
    got = b""
    try:
        while part := os.read(main, 65536):
            got += part
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(main)
    return process.wait(120), got.decode()


def test_a_terminal_sees_colours_and_how_far_it_is():
    code, got = in_a_terminal("run", "--fixture", "softmax", "--adapter", "onnxruntime", "--dtype", "float32")
    assert code == 0
    assert COLOURS.search(got)
    assert re.search(r"onnxruntime: softmax\S*.*\d+/\d+", got)
    assert re.search(r"\d:\d\d:\d\d", got)  # time that it took, and time left
    assert got.rpartition("\x1b[2K")[2].count("━") == 0  # the bar is gone in the end


@pytest.mark.parametrize("words", [("--fixture", "softmax"), ("--layer", "layer_norm")])
def test_no_color_is_heeded_and_no_line_is_wider(words):
    code, got = in_a_terminal("run", *words, "--adapter", "onnxruntime", NO_COLOR="1")
    assert code == 0
    assert not COLOURS.search(got)
    printed = got.rpartition("\x1b[2K")[2]
    assert "conform" in printed
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", printed).splitlines()
    assert max(map(len, lines)) <= 80
