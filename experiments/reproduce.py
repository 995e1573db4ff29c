"""Runs the paper's experiments and writes a report; see --help. Or `mprm reproduce`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("reproduce")
