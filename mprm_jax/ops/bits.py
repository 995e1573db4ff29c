"""Flags as bits of words: a list of those that are set, without a sort or a scattered write."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int32, UInt32

from mprm_jax.types import Array

WORD = 32  # bits
GROUP = 16  # words


def pack_bits(flags: Bool[Array, " S"]) -> UInt32[Array, " W"]:
    """Packs flags, the first one lowest; W words, a multiple of 16, hold S flags and zeros."""
    flags = jnp.pad(flags, (0, -len(flags) % (WORD * GROUP))).reshape(-1, WORD)
    values = jnp.uint32(1) << jnp.arange(WORD, dtype=jnp.uint32)
    return jnp.sum(jnp.where(flags, values[None], 0), axis=1, dtype=jnp.uint32)


def nth_set_bits(words: UInt32[Array, " W"], numbers: Int32[Array, " N"]) -> Int32[Array, " N"]:
    """Places of set bits by their number, counted from 0; 32 W where fewer are set.

    Args:
      words: of `pack_bits`.
    """
    counts = jax.lax.population_count(words).astype(jnp.int32)
    lasts = jnp.cumsum(counts)
    # Of so few words and bits, comparing with all is less than a search. In two axes, since XLA on
    # CPUs makes several steps of sums over more than 32.
    ended = numbers[:, None, None] >= lasts.reshape(-1, GROUP)[None]
    index = jnp.sum(ended, axis=(1, 2), dtype=jnp.int32)
    word = jnp.minimum(index, len(words) - 1)
    left = numbers - (lasts - counts)[word]
    up_to = jnp.uint32(0xFFFFFFFF) >> jnp.arange(WORD - 1, -1, -1, dtype=jnp.uint32)
    set_up_to = jax.lax.population_count(words[word][:, None] & up_to[None]).astype(jnp.int32)
    bit = jnp.sum(set_up_to <= left[:, None], axis=1, dtype=jnp.int32)
    return jnp.where(index < len(words), WORD * word + bit, WORD * len(words))
