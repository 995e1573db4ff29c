"""Tags scans in the browser; see --help. Or `mprm tag`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main("tag")
