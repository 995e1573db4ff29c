"""Class scores that use the tags alone: what a network has to beat.

Each takes the allowed classes [V, num_classes], the frequency of the tags and a generator.
"""

import numpy as np

from mprm_jax.types import Array


def random_labels(allowed: Array, _: Array, rng: np.random.Generator) -> Array:
    """Scores whose best allowed class is a random one, as [V, num_classes]."""
    return rng.random(allowed.shape, np.float32)


def frequent_labels(allowed: Array, frequency: Array, _: np.random.Generator) -> Array:
    """Scores whose best allowed class is the most frequent tag, as [V, num_classes].

    Args:
      frequency: [num_classes], share of the subclouds that are tagged with the class.
    """
    return np.broadcast_to(frequency[None], allowed.shape)
