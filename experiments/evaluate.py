"""Measures pseudo-labels or a network; see --help. Or `mprm evaluate`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("evaluate")
