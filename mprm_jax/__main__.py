"""`python -m mprm_jax COMMAND` is the command `mprm`."""

from mprm_jax.commands.main import main

if __name__ == "__main__":
    main()
