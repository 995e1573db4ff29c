"""Mean-field inference of the fully connected CRF: pure functions in JAX, and NumPy for a CPU.

Energies are negative log evidence. An infinite energy rules a class out at a point; a sender of 0
makes a point send no message (padding, or a point whose own evidence is not to be trusted).

Source: Krähenbühl, Koltun 2011, algorithm 1, with two habits of their code: a point receives its
own message too, and kernels are normalized.
"""

import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from mprm_jax.crf.filtering import Filter, gaussian_filter
from mprm_jax.crf.lattice_host import HostKernels, Rows, make_filter
from mprm_jax.crf.normalization import kernel_scales
from mprm_jax.crf.threads import in_threads
from mprm_jax.types import Array

# Sums of exponentials within these bounds have lost no digit.
SMALLEST_SUM, LARGEST_SUM = np.float32(1e-20), np.float32(1e30)


class Kernel(NamedTuple):
    """A normalized Gaussian filter: `receive` x filter x `send`."""

    operator: Filter
    send: Float[Array, " N"]  # 0 where a point sends no message
    receive: Float[Array, " N"]


def make_kernel(
    operator: Filter, sender: Float[Array, " N"], normalization: str = "symmetric"
) -> Kernel:
    """Normalizes a filter by its sums over all senders.

    Args:
      sender: in [0, 1]; must be 0 on padding.
      normalization: see `kernel_scales`.
    """
    sums = gaussian_filter(operator, sender[:, None])[:, 0]
    return Kernel(operator, *kernel_scales(sums, sender, normalization, jnp))


def messages(kernel: Kernel, marginals: Float[Array, "N C"]) -> Float[Array, "N C"]:
    """What each point hears from all points, for any subset of the classes."""
    sent = kernel.send[:, None] * marginals
    return kernel.receive[:, None] * gaussian_filter(kernel.operator, sent)


def gibbs(energies: Float[Array, "N C"]) -> Float[Array, "N C"]:
    """Marginals proportional to exp(-energy), of rows with a finite energy."""
    return jax.nn.softmax(-energies, axis=1)


def updated_energies(
    unary: Float[Array, "N C"],
    heard: Float[Array, "N C"],
    compatibility: Float[Array, "C C"] | None = None,
) -> Float[Array, "N C"]:
    """Energies of each class given the weighted sum of messages.

    Args:
      compatibility: cost of class c at a point where another is of class e; by default
        Potts, 0 on the diagonal and 1 elsewhere.
    """
    if compatibility is None:
        # A message of total t costs class c t - heard[c]; t, the same for all classes, cancels.
        return unary - heard
    return unary + jnp.dot(heard, compatibility.T, precision=jax.lax.Precision.HIGHEST)


def mean_field(
    unary: Float[Array, "N C"],
    kernels: tuple[Kernel, ...],
    weights: Float[Array, " K"],
    *,
    num_iterations: int,
    compatibility: Float[Array, "C C"] | None = None,
) -> Float[Array, "N C"]:
    """Approximates the marginals of a fully connected CRF.

    Differentiable with respect to `unary`, `weights` and `compatibility`.

    Args:
      unary: energies; infinite where a class is not allowed, but not in a whole row.
      kernels: K normalized filters over the same N points.
      weights: of the kernels.
      compatibility: see `updated_energies`.

    Returns:
      Marginals; rows sum to 1.
    """

    def iterate(marginals: Array, _: None) -> tuple[Array, None]:
        heard = sum(weights[k] * messages(kernel, marginals) for k, kernel in enumerate(kernels))
        return gibbs(updated_energies(unary, heard, compatibility)), None

    return jax.lax.scan(iterate, gibbs(unary), length=num_iterations)[0]


def mean_field_on_host(
    kernels: HostKernels,
    unary: Float32[Array, "N C"],
    weights: Float32[Array, " K"] | Sequence[float],
    *,
    num_iterations: int,
    compatibility: Float32[Array, "C C"] | None = None,
) -> Float32[Array, "N C"]:
    """Computes `mean_field` with NumPy and SciPy, on all cores of a CPU.

    A block of points stays in the cache of a core from its messages to its marginals.

    Args:
      unary: energies; infinite where a class is not allowed.
      weights, compatibility: see `mean_field`.
    """
    marginals = np.empty(unary.shape, np.float32)
    # Compatibility acts on classes and a filter on points, so either can come first.
    sent = marginals if compatibility is None else np.empty_like(marginals)
    work = make_filter(kernels, sent, weights=weights)

    def begin(rows: Rows) -> None:
        _softmax(-unary[rows.places], marginals[rows.places])

    def update(rows: Rows) -> None:
        evidence = rows.matrix @ work.blurred
        evidence -= unary[rows.places]
        _softmax(evidence, marginals[rows.places])

    in_threads(begin, kernels.slices)
    for _ in range(num_iterations):
        if compatibility is not None:
            np.matmul(marginals, -compatibility.T, out=sent)
        for stage in work.stages:
            in_threads(operator.call, stage)
        in_threads(update, kernels.slices)
    return marginals


def _softmax(evidence: Float32[Array, "n C"], marginals: Float32[Array, "n C"]) -> None:
    """Writes marginals proportional to exp(evidence)."""
    with np.errstate(over="ignore"):
        np.exp(evidence, out=marginals)
    sums = np.einsum("nc->n", marginals)
    # Only few points, if any, need their evidence shifted, and to find its maximum is slow.
    extreme = ~((sums > SMALLEST_SUM) & (sums < LARGEST_SUM))
    if extreme.any():
        rest = evidence[extreme]
        rest = np.exp(rest - rest.max(axis=1, keepdims=True))
        marginals[extreme] = rest
        sums[extreme] = rest.sum(axis=1)
    marginals /= sums[:, None]
