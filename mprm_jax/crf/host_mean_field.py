"""Mean-field inference with NumPy and SciPy, on all cores of a CPU.

A block of points stays in the cache of a core from its messages to its marginals.
"""

import itertools

import numpy as np

from mprm_jax.crf.sparse_kernel import (
    BLOCK_POINTS,
    Filter,
    SparseKernel,
    add_heard,
    call,
    make_filter,
)
from mprm_jax.crf.threads import in_threads
from mprm_jax.types import Array

# Sums of exponentials within these bounds have lost no digit.
SMALLEST_SUM, LARGEST_SUM = np.float32(1e-20), np.float32(1e30)


def mean_field_on_host(
    kernels: tuple[SparseKernel, ...],
    unary: Array,
    weights: Array,
    *,
    num_iterations: int,
    compatibility: Array | None = None,
) -> Array:
    """Computes `mean_field` of kernels built on the host.

    Args:
      unary: [N, C] float32 energies; infinite where a class is not allowed.
      weights, compatibility: see `mean_field`.

    Returns:
      [N, C] marginals.
    """
    marginals = np.empty(unary.shape, np.float32)
    # Compatibility acts on classes and a filter on points, so either can come first.
    sent = marginals if compatibility is None else np.empty_like(marginals)
    filters = [
        make_filter(kernel, sent, weight=float(weight))
        for kernel, weight in zip(kernels, weights, strict=True)
    ]
    stages = [*itertools.zip_longest(*(each.stages for each in filters), fillvalue=())]

    def update(filters: list[Filter], start: int) -> None:
        rows = slice(start, start + BLOCK_POINTS)
        evidence = np.negative(unary[rows], order="C")
        for each in filters:
            add_heard(each, rows, evidence)
        _softmax(evidence, marginals[rows])

    blocks = range(0, len(unary), BLOCK_POINTS)
    in_threads(lambda start: update([], start), blocks)
    for _ in range(num_iterations):
        if compatibility is not None:
            np.matmul(marginals, -compatibility.T, out=sent)
        for stage in stages:
            in_threads(call, itertools.chain(*stage))
        in_threads(lambda start: update(filters, start), blocks)
    return marginals


def _softmax(evidence: Array, marginals: Array) -> None:
    """Writes marginals [n, C] proportional to exp(evidence)."""
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
