"""Refines exported pseudo-labels with a dense CRF; see --help. Or `mprm refine`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("refine")
