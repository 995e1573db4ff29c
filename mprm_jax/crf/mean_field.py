"""Mean-field inference of the fully connected CRF, as pure functions.

Energies are negative log evidence. An infinite energy rules a class out at a point; a sender of 0
makes a point send no message (padding, or a point whose own evidence is not to be trusted).

Source: Krähenbühl, Koltun 2011, algorithm 1, with two habits of their code: a point receives its
own message too, and kernels are normalized.
"""

import types
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mprm_jax.crf.filtering import Filter, gaussian_filter
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


class Kernel(NamedTuple):
    """A normalized Gaussian filter: `receive` x filter x `send`."""

    operator: Filter
    send: Array  # [N]; 0 where a point sends no message
    receive: Array  # [N]


def make_kernel(operator: Filter, sender: Array, normalization: str = "symmetric") -> Kernel:
    """Normalizes a filter by its sums over all senders.

    Args:
      sender: [N] in [0, 1]; must be 0 on padding.
      normalization: "none", "before" (each point sends 1 in total), "after" (each point receives
        a mean) or "symmetric" (the square root of both).
    """
    sums = gaussian_filter(operator, sender[:, None])[:, 0]
    return Kernel(operator, *kernel_scales(sums, sender, normalization, jnp))


def kernel_scales(
    sums: Array, sender: Array, normalization: str, xp: types.ModuleType
) -> tuple[Array, Array]:
    """What normalization multiplies messages by, when sent and when received, [N] each.

    Args:
      sums: [N] of what all senders send to each point.
      xp: numpy or jax.numpy.

    Returns:
      Both scales; what is received is 0 where the sum is below `FAINTEST`.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization is {normalization!r}; give one of {[*NORMALIZATIONS]}.")
    sending, receiving = NORMALIZATIONS[normalization]
    heard = sums >= FAINTEST
    sums = xp.where(heard, sums, 1.0)
    return sender * sums**sending, xp.where(heard, sums**receiving, 0.0)


def messages(kernel: Kernel, marginals: Array) -> Array:
    """What each point hears from all points: [N, C] to [N, C], for any subset of the classes."""
    sent = kernel.send[:, None] * marginals
    return kernel.receive[:, None] * gaussian_filter(kernel.operator, sent)


def gibbs(energies: Array) -> Array:
    """Marginals [N, C] proportional to exp(-energy), of rows with a finite energy."""
    return jax.nn.softmax(-energies, axis=1)


def updated_energies(unary: Array, heard: Array, compatibility: Array | None = None) -> Array:
    """Energies [N, C] of each class given the weighted sum of messages [N, C].

    Args:
      compatibility: [C, C], cost of class c at a point where another is of class e; by default
        Potts, 0 on the diagonal and 1 elsewhere.
    """
    if compatibility is None:
        # A message of total t costs class c t - heard[c]; t, the same for all classes, cancels.
        return unary - heard
    return unary + jnp.dot(heard, compatibility.T, precision=jax.lax.Precision.HIGHEST)


def mean_field(
    unary: Array,
    kernels: tuple[Kernel, ...],
    weights: Array,
    *,
    num_iterations: int,
    compatibility: Array | None = None,
) -> Array:
    """Approximates the marginals of a fully connected CRF.

    Differentiable with respect to `unary`, `weights` and `compatibility`.

    Args:
      unary: [N, C] energies; infinite where a class is not allowed, but not in a whole row.
      kernels: K normalized filters over the same N points.
      weights: [K] of the kernels.
      compatibility: see `updated_energies`.

    Returns:
      [N, C] marginals; rows sum to 1.
    """

    def iterate(marginals: Array, _: None) -> tuple[Array, None]:
        heard = sum(weights[k] * messages(kernel, marginals) for k, kernel in enumerate(kernels))
        return gibbs(updated_energies(unary, heard, compatibility)), None

    return jax.lax.scan(iterate, gibbs(unary), length=num_iterations)[0]
