"""The commands of `mprm`, one module each; the scripts in experiments/ call the same."""
