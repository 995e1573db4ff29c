"""Rooms: procedural furnished rooms in ScanNet's own file layout, the embedded default data set."""

from mprm_jax.rooms.generate import SIZES, VERSION, generate

__all__ = ["SIZES", "VERSION", "generate"]
