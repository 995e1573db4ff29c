"""The results of operations on the device that is there, against the values of the tests.

    python benchmarks/golden.py

`error` is the largest difference from the naive loops of `tests/reference.py`, as a share of their
largest value; of the CRF, the mean error of its marginals beside that of pydensecrf.
"""

import pathlib
import sys
from collections.abc import Iterator

import jax
import numpy as np

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests"))

import crf_vectors
import reference
from processes import print_row, rounded

from mprm_jax.crf.inference import dense_crf
from mprm_jax.ops.attention import channel_attention, spatial_attention
from mprm_jax.ops.deformable import deformable_kpconv
from mprm_jax.ops.kpconv import kpconv
from mprm_jax.ops.pooling import neighbor_max
from mprm_jax.types import Array

_ROWS, _SLOTS, _CHANNELS, _KERNEL = 200, 12, 16, 15
_CLOUDS = (120, 60)  # rows of clouds; the rest is padding
_CRF_CASES = ("d3", "d6")


def main() -> None:
    for row in golden_values():
        print_row(rounded(row))


def golden_values() -> Iterator[dict]:
    """One row for each operation, on the default device."""
    rng = np.random.default_rng(0)
    queries, supports = (rng.uniform(size=(_ROWS, 3)).astype(np.float32) for _ in range(2))
    neighbors = rng.integers(0, _ROWS + 1, (_ROWS, _SLOTS)).astype(np.int32)
    features = rng.normal(size=(_ROWS, _CHANNELS)).astype(np.float32)
    lists = queries, supports, neighbors, features
    kernel = {
        "kernel_points": rng.normal(scale=0.3, size=(_KERNEL, 3)).astype(np.float32),
        "weights": rng.normal(size=(_KERNEL, _CHANNELS, _CHANNELS)).astype(np.float32),
        "extent": 0.5,
    }
    offsets = rng.normal(scale=0.1, size=(_ROWS, _KERNEL, 3)).astype(np.float32)
    yield _row("kpconv", kpconv(*lists, **kernel), reference.kpconv(*lists, **kernel))
    moved = kernel | {"offsets": offsets}
    found = deformable_kpconv(*lists, **moved)
    yield _row("deformable kpconv", found, reference.kpconv(*lists, **moved))
    expected = reference.neighbor_max(features, neighbors)
    yield _row("neighbor_max", neighbor_max(features, neighbors), expected)

    sizes = (*_CLOUDS, _ROWS - sum(_CLOUDS))
    clouds = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    asked = tuple(rng.normal(size=(_ROWS, _CHANNELS)).astype(np.float32) for _ in range(2))
    where = clouds, len(_CLOUDS)
    masks = [clouds == cloud for cloud in range(len(_CLOUDS))]
    expected = sum(reference.spatial_attention(*asked, features, mask) for mask in masks)
    yield _row("spatial attention", spatial_attention(*asked, features, *where), expected)
    expected = sum(reference.channel_attention(features, mask) for mask in masks)
    yield _row("channel attention", channel_attention(features, *where), expected)

    stored = np.load(crf_vectors.FILE)
    num_points, seed = crf_vectors.CASES[0]
    rows = crf_vectors.stored_rows(num_points)
    for name in _CRF_CASES:
        case = f"{name}_{num_points}_{seed}"
        found = dense_crf(*crf_vectors.room(num_points, seed), crf_vectors.SETTINGS[name])
        exact = stored[f"marginals_{case}"].astype(np.float32)
        error, _ = crf_vectors.errors(found.marginals[rows], exact)
        peer = stored[f"peer_errors_{case}"][0]
        yield _about(f"CRF {name}") | {"error": error, "error_of_pydensecrf": float(peer)}


def _row(name: str, found: Array, expected: Array) -> dict:
    error = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    return _about(name) | {"error": float(error)}


def _about(name: str) -> dict:
    return {"operation": name, "device": jax.local_devices()[0].device_kind}


if __name__ == "__main__":
    main()
