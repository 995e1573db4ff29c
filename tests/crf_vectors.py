"""Small rooms and their exact marginals, stored as `crf/exact_vectors.npz`.

    python tests/crf_vectors.py --peer /path/to/python/with/pydensecrf

writes them anew, with the errors that pydensecrf makes on the same input.
"""

import argparse
import dataclasses
import pathlib
import subprocess
import tempfile

import numpy as np

from mprm_jax.crf.inference import dense_crf
from mprm_jax.crf.refinement import unary_energies
from mprm_jax.crf.settings import RELEASED

FILE = pathlib.Path(__file__).parent / "crf" / "exact_vectors.npz"
PEER = pathlib.Path(__file__).parents[1] / "benchmarks" / "crf_peer.py"
NUM_CLASSES = 8
NUM_STORED = 200  # points whose marginals are stored; of all points, the labels are

# Position alone has 3 dimensions, position and color 6.
SETTINGS = {
    "d3": dataclasses.replace(RELEASED.crf, kernels=RELEASED.crf.kernels[:1]),
    "d6": dataclasses.replace(RELEASED.crf, kernels=RELEASED.crf.kernels[1:]),
    "both": RELEASED.crf,
}
# Points and seed; at 4 cm, 2000 points cover 3 m², 8000 points 13 m².
CASES = [(2000, 0), (2000, 1), (8000, 2)]


def room(num_points: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features x, y, z, r, g, b around the origin, and energies: a floor, walls and boxes."""
    rng = np.random.default_rng((seed, num_points))
    side = np.sqrt(num_points / 625 / 2)  # meters, at 625 points per square meter
    surface = rng.integers(0, 6, num_points)
    points = rng.uniform(0, side, (num_points, 3))
    points[surface == 0, 2] = 0
    points[surface == 1, 0] = 0
    points[surface == 2, 1] = 0
    box = surface >= 3
    points[box] = points[box] * 0.3 + 0.2 * side * surface[box, None] - 0.4 * side
    points[box, 2] = 0.3 * side
    patch = surface * 4 + (points[:, 0] > side / 2) * 2 + (points[:, 1] > side / 2)
    colors = rng.uniform(0.2, 0.8, (24, 3))[patch] + 0.02 * rng.normal(size=(num_points, 3))
    classes = surface % NUM_CLASSES
    logits = rng.normal(size=(num_points, NUM_CLASSES))
    logits += rng.normal(size=(24, NUM_CLASSES))[patch] + 2 * np.eye(NUM_CLASSES)[classes]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    features = np.concatenate([points, colors], axis=1)
    features -= (features.min(axis=0) + features.max(axis=0)) / 2
    return features.astype(np.float32), unary_energies(shares)


def errors(marginals: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Mean absolute error, and share of points with another label."""
    other = marginals.argmax(axis=1) != exact.argmax(axis=1)
    return float(np.abs(marginals - exact).mean()), float(other.mean())


def stored_rows(num_points: int) -> np.ndarray:
    return np.arange(NUM_STORED) * (num_points // NUM_STORED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, help="a Python that imports pydensecrf")
    args = parser.parse_args()
    arrays = {}
    for num_points, seed in CASES:
        features, unary = room(num_points, seed)
        rows = stored_rows(num_points)
        for name, settings in SETTINGS.items():
            exact = dense_crf(features, unary, settings, method="exact").marginals
            peer = _peer(args.peer, features, unary, settings)
            case = f"{name}_{num_points}_{seed}"
            arrays[f"labels_{case}"] = exact.argmax(axis=1).astype(np.uint8)
            arrays[f"marginals_{case}"] = exact[rows].astype(np.float16)
            arrays[f"peer_{case}"] = peer[rows].astype(np.float16)
            mean, other = errors(peer, exact)
            mean_stored, _ = errors(peer[rows], exact[rows])
            arrays[f"peer_errors_{case}"] = np.array([mean_stored, other])
            print(case, f"peer: mean error {mean:.2e}, other labels {other:.4f}")
    np.savez_compressed(FILE, **arrays)


def _peer(python: str, features: np.ndarray, unary: np.ndarray, settings) -> np.ndarray:
    kernels = {
        f"kernel_{k}": (features[:, kernel.columns] / kernel.widths).astype(np.float32)
        for k, kernel in enumerate(settings.kernels)
    }
    with tempfile.TemporaryDirectory() as name:
        inputs, outputs = pathlib.Path(name) / "in.npz", pathlib.Path(name) / "out.npz"
        weights = [kernel.weight for kernel in settings.kernels]
        np.savez(inputs, unary=unary, weights=weights, **kernels)
        subprocess.run([python, str(PEER), str(inputs), str(outputs)], check=True)
        return np.load(outputs)["marginals_5"]


if __name__ == "__main__":
    main()
