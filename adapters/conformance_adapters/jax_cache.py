"""JAX's own cache of compiled operations, kept between runs.

Run operation by operation, JAX compiles every operation for every shape: 35 ms each, over a thousand in a
run of all fixtures. JAX can keep what it compiled on disk, by content, for its own version and options.
"""

from __future__ import annotations

import os
from pathlib import Path


def keep_compiled() -> None:
    """Let JAX keep compiled operations in the user's cache folder, unless the user has set a folder of their own."""
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR") is not None:
        return
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(Path(home, "conformance", "jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
