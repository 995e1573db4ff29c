"""Draws rooms of the embedded data set; see --help. Or `mprm render-rooms`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("render-rooms")
