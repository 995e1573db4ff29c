"""Point class activation maps: class scores of points, merged over paths."""

import jax.numpy as jnp

from mprm_jax.types import Array


def class_scores(features: Array, weights: Array, bias: Array | None = None) -> Array:
    """Scores [T, num_classes] of points with `features` [T, C] (Wei et al. 2020, eq. 2).

    Args:
      features: [T, C].
      weights: [C, num_classes].
      bias: [num_classes].
    """
    scores = jnp.einsum("tc,cn->tn", features, weights)
    return scores if bias is None else scores + bias[None]


def merge_paths(scores: Array, fusion: str) -> Array:
    """Merges the maps [num_paths, T, num_classes] of all paths into one, by "max" or "sum"."""
    if fusion == "max":
        return jnp.max(scores, axis=0)
    if fusion == "sum":
        return jnp.sum(scores, axis=0)
    raise ValueError(f"fusion is {fusion!r}; choose 'max' or 'sum'.")
