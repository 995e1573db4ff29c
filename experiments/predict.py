"""Labels the points of scans with a trained network; see --help. Or `mprm predict`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("predict")
