"""The suite runs in a process per core, so each gets one thread: more would only wait for one another."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
