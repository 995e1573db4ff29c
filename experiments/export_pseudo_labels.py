"""Exports the pseudo-labels of a trained MPRM; see --help. Or `mprm export`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("export")
