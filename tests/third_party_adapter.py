"""An adapter as a third party would ship it: a package and an entry point, in a folder on the path.

Its framework is NumPy, and its subjects do what frameworks do at their worst.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from conformance import adapter

SOURCE = """
import os, signal, subprocess, sys, time
import numpy as np
from conformance.errors import Unsupported
from conformance.trace import Entry, Trace


class Frame:
    name = "frame"
    requires = ("numpy",)
    install = "pip install frame"
    dtypes = ("float32", "float64")

    @property
    def weights_back(self):
        return "FRAME_BACK" in os.environ

    def start(self):
        if os.environ.get("FRAME_START") == "fails":
            raise ImportError("libframe.so: cannot open shared object file")
        return {"frame": "1.5.0", "process": str(os.getpid())}

    def subjects(self, request):
        if request.layer != "linear":
            raise Unsupported(f"frame has no {request.layer} of its own")
        if request.dtype not in self.dtypes:
            raise Unsupported(f"frame does not compute in {request.dtype}")
        return os.environ.get("FRAME_SUBJECTS", "fine").split(",")

    def run(self, request):
        return getattr(self, "do_" + request.subject.replace("-", "_"))(request)

    def do_fine(self, request):
        x, kernel = (a.astype(request.dtype) for a in (request.inputs["x"], request.weights["kernel"]))
        product = x @ kernel
        return Trace(product, [Entry("frame.dot", product)], product.copy(), {"kernel": kernel})

    def do_wrong(self, request):
        trace = self.do_fine(request)
        return Trace(trace.output * 2, [], None, trace.weights)

    def do_unfaithful(self, request):
        trace = self.do_fine(request)
        return Trace(trace.output, [], None, {"kernel": trace.weights["kernel"] * 2})

    def do_forgetful(self, request):
        return Trace(self.do_fine(request).output)

    def do_other_weights(self, request):
        return Trace(self.do_fine(request).output, [], None, {"kernal": request.weights["kernel"]})

    def do_other_shape(self, request):
        return Trace(self.do_fine(request).output[:1])

    def do_exit(self, request):
        print("first words", file=sys.stderr)
        print("last words", file=sys.stderr, flush=True)
        os._exit(7)

    def do_endless_words(self, request):
        for _ in range(200):
            sys.stderr.write("word\\n" * 20_000)
        sys.stderr.flush()
        os._exit(9)

    def do_orphan(self, request):
        if os.fork() == 0:
            time.sleep(60)  # a child that keeps the parent's output open
        os._exit(3)

    def do_segfault(self, request):
        print("about to fail", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)

    def do_kill(self, request):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def do_quit(self, request):
        sys.exit("the framework has had enough")

    def do_slow(self, request):
        time.sleep(0.3)
        return self.do_fine(request)

    def do_hang(self, request):
        time.sleep(600)

    def do_hog(self, request):
        held = []
        while True:
            held.append(np.ones(2**20))  # 8 MiB, written to
            time.sleep(0.002)

    def do_reserve(self, request):
        held = np.empty(2**29)  # 4 GiB, of which nothing is written to
        time.sleep(0.3)
        return self.do_fine(request)

    def do_raise(self, request):
        raise RuntimeError("shapes 3x4 and 5x6 cannot be multiplied\\n")

    def do_raise_nothing(self, request):
        raise KeyError()

    def do_unsupported(self, request):
        raise Unsupported("frame 1.5 has no transposed kernel")

    def do_noise(self, request):
        print("a framework greets its user")
        sys.stdout.write('["done", ""]\\n')
        sys.stdout.flush()
        os.write(1, b'["error", "from below"]\\n')
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        return self.do_fine(request)

    def do_environment(self, request):
        trace = self.do_fine(request)
        return Trace(trace.output, environment={"frame": "1.5.1"})


class Absent(Frame):
    name = "absent"
    requires = ("numpy", "a_module_that_is_not_there")


class AbsentPart(Frame):
    name = "absent-part"
    requires = ("a_package_that_is_not_there.part",)
"""

ENTRY_POINTS = """
[conformance.adapters]
frame = frame_adapter:Frame
absent = frame_adapter:Absent
absent-part = frame_adapter:AbsentPart
"""


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the adapter, which this process and its workers find on their path."""
    package = tmp_path / "third-party"
    information = package / "frame_adapter-1.0.dist-info"
    information.mkdir(parents=True)
    (package / "frame_adapter.py").write_text(SOURCE)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: frame-adapter\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv("PYTHONPATH", str(package) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.delitem(sys.modules, "frame_adapter", raising=False)
    monkeypatch.setattr(adapter, "_entries", adapter._entries.__wrapped__)  # what is installed changes here
    return "frame"
