"""Mean-field inference with NumPy and SciPy, on all cores of a CPU.

A block of points stays in the cache of a core from its messages to its marginals. Each row of a
product is summed by itself, so neither blocks nor threads change a result.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from mprm_jax.crf.sparse_kernel import BLOCK_POINTS, SparseKernel
from mprm_jax.crf.threads import thread_pool
from mprm_jax.types import Array


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
      unary: [C, N] float32 energies, class by class; infinite where a class is not allowed.
      weights, compatibility: see `mean_field`.

    Returns:
      [N, C] marginals.
    """
    num_classes, num_points = unary.shape
    marginals = np.empty((num_points, num_classes), np.float32)
    # Compatibility acts on classes and a filter on points, so either can come first.
    sent = marginals if compatibility is None else np.empty_like(marginals)
    plans = [_plan(kernel, sent) for kernel in kernels]
    stages = [*itertools.zip_longest(*(plan.stages for plan in plans), fillvalue=())]
    blocks = range(-(-num_points // BLOCK_POINTS))
    weights = [np.float32(weight) for weight in weights]

    def begin(block: int) -> None:
        rows = slice(block * BLOCK_POINTS, (block + 1) * BLOCK_POINTS)
        marginals[rows] = _softmax(-unary[:, rows]).T

    def update(block: int) -> None:
        heard = None
        for kernel, plan, weight in zip(kernels, plans, weights, strict=True):
            rows, matrix = kernel.slice[block]
            message = matrix @ plan.values
            message *= weight
            heard = message if heard is None else np.add(heard, message, out=heard)
        marginals[rows] = _softmax(heard.T - unary[:, rows]).T

    with thread_pool() as pool:
        list(pool.map(begin, blocks))
        for _ in range(num_iterations):
            if compatibility is not None:
                np.matmul(marginals, -compatibility.T, out=sent)
            for stage in stages:
                list(pool.map(_multiply, itertools.chain(*stage)))
            list(pool.map(update, blocks))
    return marginals


class _Product(NamedTuple):
    matrix: csr_array
    source: Array
    target: Array


class _Plan(NamedTuple):
    """What a filter computes up to its vertex values, one stage after another."""

    stages: list[list[_Product]]
    values: Array  # [M, C] result of the last stage


def _plan(kernel: SparseKernel, sent: Array) -> _Plan:
    shape = (kernel.num_vertices, sent.shape[1])
    values, spare = np.empty(shape, np.float32), np.empty(shape, np.float32)
    stages = [[_Product(matrix, sent, values[rows]) for rows, matrix in kernel.splat]]
    for blur in kernel.blurs:
        stages.append([_Product(matrix, values, spare[rows]) for rows, matrix in blur])
        values, spare = spare, values
    return _Plan(stages, values)


def _multiply(product: _Product) -> None:
    product.target[:] = product.matrix @ product.source


def _softmax(evidence: Array) -> Array:
    """Marginals [C, n] proportional to exp(evidence), in place."""
    evidence -= evidence.max(axis=0)
    np.exp(evidence, out=evidence)
    evidence /= evidence.sum(axis=0)
    return evidence
