"""Trains a network; see --help. Or `mprm train`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("train")
