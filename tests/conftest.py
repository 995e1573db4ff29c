"""Four CPU devices, strict broadcasting, checked shapes, one key per test, logging as it was."""

import logging
import os
import sys

# Tests run each program a few times: unoptimized, most compile in a fraction of the time. Of the
# commands that tests start, too.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax
import pytest
from jaxtyping import install_import_hook

# Every call and trace of these, in any test, has the shapes and types that its signature says.
# Not of what checks its own arguments: tests want to see those errors.
CHECKED = ("geometry", "ops", "models", "crf.filtering", "crf.mean_field")
install_import_hook([f"mprm_jax.{name}" for name in CHECKED], "beartype.beartype")

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def same_process_afterwards():
    """For tests of scripts, which set up logging and JAX for their process."""
    hook, cache = sys.unraisablehook, jax.config.jax_compilation_cache_dir
    handlers = [*logging.root.handlers]
    levels = {logger: logger.level for logger in map(logging.getLogger, (None, "absl", "jax"))}
    yield
    logging.root.handlers[:] = handlers
    for logger, level in levels.items():
        logger.setLevel(level)
    sys.unraisablehook = hook
    jax.config.update("jax_compilation_cache_dir", cache)
