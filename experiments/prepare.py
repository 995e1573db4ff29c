"""Prepares a data set; see --help. Or `mprm prepare`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("prepare")
