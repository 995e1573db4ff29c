"""Point class activation maps: class scores of points, merged over paths."""

import jax.numpy as jnp
from jaxtyping import Float

from mprm_jax.types import Array


def class_scores(
    features: Float[Array, "T C"],
    weights: Float[Array, "C num_classes"],
    bias: Float[Array, " num_classes"] | None = None,
) -> Float[Array, "T num_classes"]:
    """Scores of points by their features (Wei et al. 2020, eq. 2)."""
    scores = jnp.einsum("tc,cn->tn", features, weights)
    return scores if bias is None else scores + bias[None]


def merge_paths(
    scores: Float[Array, "num_paths T num_classes"], fusion: str
) -> Float[Array, "T num_classes"]:
    """Merges the maps of all paths into one, by "max" or "sum"."""
    if fusion == "max":
        return jnp.max(scores, axis=0)
    if fusion == "sum":
        return jnp.sum(scores, axis=0)
    raise ValueError(f"fusion is {fusion!r}; choose 'max' or 'sum'.")
