"""Mean-field inference over blocks of classes, as many small programs driven from the host.

Programs that do not wait for each other run at the same time on a CPU, while XLA runs the reads of
one filter on a single core. A program per kernel is compiled for fewer shapes than one for all.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mprm_jax.crf.mean_field import Kernel, messages, updated_energies
from mprm_jax.types import Array


def mean_field_in_blocks(
    kernels: tuple[Kernel, ...],
    unary: tuple[Array, ...],
    weights: Array,
    num_iterations: int,
    compatibility: Array | None,
) -> tuple[Array, ...]:
    """Computes `mean_field` with the classes in blocks of equal width.

    Args:
      unary: energies [N, width] of each block; infinite in columns that fill the last block.
      weights: [K] of the kernels.
      compatibility: [C, C] over the columns of all blocks, or None for Potts.

    Returns:
      Marginals of each block.
    """
    weights = [np.float32(weight) for weight in weights]
    marginals = _softmax([_shares(block, None) for block in unary])
    for _ in range(num_iterations):
        heard = []
        for block in marginals:
            total = None
            for kernel, weight in zip(kernels, weights, strict=True):
                total = _hear(kernel, weight, block, total)
            heard.append(total)
        if compatibility is not None:
            heard = _mix(tuple(heard), compatibility)
        # Waits, so that the arrays of one iteration are freed before the next needs them.
        shares = [_shares(*block) for block in zip(unary, heard, strict=True)]
        marginals = jax.block_until_ready(_softmax(shares))
    return tuple(marginals)


@jax.jit
def _hear(kernel: Kernel, weight: Array, marginals: Array, total: Array | None) -> Array:
    heard = weight * messages(kernel, marginals)
    return heard if total is None else total + heard


@jax.jit
def _mix(heard: tuple[Array, ...], compatibility: Array) -> tuple[Array, ...]:
    """Messages after compatibility, with the sign of those of a Potts model."""
    joined = jnp.concatenate(heard, axis=1)
    cost = updated_energies(jnp.zeros_like(joined), joined, compatibility)
    return tuple(jnp.split(-cost, len(heard), axis=1))


class _Shares(NamedTuple):
    """Part of a softmax over classes in several blocks."""

    values: Array  # [N, width] exp(-energy - top)
    top: Array  # [N] largest -energy of the block
    total: Array  # [N] sum of the values


@jax.jit
def _shares(unary: Array, heard: Array | None) -> _Shares:
    evidence = -(unary if heard is None else updated_energies(unary, heard))
    # A block of a point may have no allowed class.
    top = jnp.maximum(jnp.max(evidence, axis=1), jnp.finfo(jnp.float32).min)
    values = jnp.exp(evidence - top[:, None])
    return _Shares(values, top, jnp.sum(values, axis=1))


def _softmax(blocks: list[_Shares]) -> list[Array]:
    """The marginals of each block; see `mean_field.gibbs`."""
    tops, totals = tuple(block.top for block in blocks), tuple(block.total for block in blocks)
    return [_normalize(block.values, block.top, tops, totals) for block in blocks]


@jax.jit
def _normalize(
    values: Array, top: Array, tops: tuple[Array, ...], totals: tuple[Array, ...]
) -> Array:
    highest = functools.reduce(jnp.maximum, tops)
    total = sum(part * jnp.exp(one - highest) for one, part in zip(tops, totals, strict=True))
    return values * (jnp.exp(top - highest) / total)[:, None]
