"""How kernels are normalized by their sums over all senders, in NumPy or in JAX."""

import types

from mprm_jax.errors import UserError
from mprm_jax.types import Array

# Powers of the row sums D that scale what is sent and what is received: of K, K / D, ...
NORMALIZATIONS = {
    "none": (0.0, 0.0),
    "before": (-1.0, 0.0),
    "after": (0.0, -1.0),
    "symmetric": (-0.5, -0.5),
}
# A point whose sum of kernel values over all senders is smaller hears nothing: normalization would
# blow up the tail of the kernel. One sender 3 widths away comes to 0.011; who sends hears itself,
# which is 1, in a lattice of d dimensions at least half of 1 / (d + 1).
FAINTEST = 0.01


def check_normalization(name: str) -> None:
    """Raises `ValueError` if there is no such normalization."""
    if name not in NORMALIZATIONS:
        raise UserError(f"normalization is {name!r}; give one of {[*NORMALIZATIONS]}.")


def kernel_scales(
    sums: Array, sender: Array, normalization: str, xp: types.ModuleType
) -> tuple[Array, Array]:
    """What normalization multiplies messages by, when sent and when received, [N] each.

    Args:
      sums: [N] of what all senders send to each point.
      sender: [N] in [0, 1].
      normalization: "none", "before" (each point sends 1 in total), "after" (each point receives
        a mean) or "symmetric" (the square root of both).
      xp: numpy or jax.numpy.

    Returns:
      Both scales; what is received is 0 where the sum is below `FAINTEST`.
    """
    check_normalization(normalization)
    sending, receiving = NORMALIZATIONS[normalization]
    heard = sums >= FAINTEST
    sums = xp.where(heard, sums, 1.0)
    return sender * sums**sending, xp.where(heard, sums**receiving, 0.0)
