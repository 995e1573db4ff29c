"""Flags as bits of words: a list of those that are set, without a sort or a scattered write."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int32, UInt32

from mprm_jax.types import Array

WORD = 32  # bits


def pack_bits(flags: Bool[Array, " S"]) -> UInt32[Array, " W"]:
    """Packs flags, the first one lowest; W words hold S flags and zeros."""
    flags = jnp.pad(flags, (0, -len(flags) % WORD)).reshape(-1, WORD)
    values = jnp.uint32(1) << jnp.arange(WORD, dtype=jnp.uint32)
    return jnp.sum(jnp.where(flags, values[None], 0), axis=1, dtype=jnp.uint32)


def nth_set_bits(words: UInt32[Array, " W"], numbers: Int32[Array, " N"]) -> Int32[Array, " N"]:
    """Places of set bits by their number, counted from 0; 32 W where fewer are set."""
    counts = jax.lax.population_count(words).astype(jnp.int32)
    lasts = jnp.cumsum(counts)
    firsts = lasts - counts
    # Of so few words and bits, comparing with all is less than a search, and reads in order.
    here = (firsts[None] <= numbers[:, None]) & (numbers[:, None] < lasts[None])
    word = jnp.sum(jnp.where(here, words[None], 0), axis=1, dtype=jnp.uint32)
    before = jnp.sum(jnp.where(here, firsts[None], 0), axis=1)
    starts = jnp.arange(0, WORD * len(words), WORD, dtype=jnp.int32)
    start = jnp.sum(jnp.where(here, starts[None], 0), axis=1)
    up_to = jnp.uint32(0xFFFFFFFF) >> jnp.arange(WORD - 1, -1, -1, dtype=jnp.uint32)
    set_up_to = jax.lax.population_count(word[:, None] & up_to[None]).astype(jnp.int32)
    bit = jnp.sum(set_up_to <= (numbers - before)[:, None], axis=1, dtype=jnp.int32)
    return jnp.where(numbers < lasts[-1], start + bit, WORD * len(words))
