"""Looks at weak labels; see --help. Or `mprm weak-labels`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("weak-labels")
