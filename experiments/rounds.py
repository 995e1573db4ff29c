"""Trains segmentation networks in rounds, each on better labels; see --help. Or `mprm rounds`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("rounds")
