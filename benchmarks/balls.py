"""Cutting balls out of many scenes in random order: balls/s by how their points are found.

Rooms are written as scenes of a store, their files mapped as in training. Beside the way that is
used stand a search tree made for the ball, as a cache of too few scenes would do, and a tree that
is there already, as a cache of all scenes would have it:

    python benchmarks/balls.py --output benchmarks/results/balls.json
"""

import argparse
import functools
import pathlib
import tempfile
import time

import numpy as np
from processes import print_row, rounded, write_report

from mprm_jax.geometry.balls import ball_rows, grid_seeds, scan_ball
from mprm_jax.geometry.neighbors import make_tree
from mprm_jax.geometry.voxels import voxel_grid, voxel_means
from mprm_jax.rooms.generate import num_scenes, scan_scene
from mprm_jax.types import Array

VOXEL, RADIUS = 0.04, 2.0  # meters
_REPEATS = 3  # each way in turn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="quick", help="of the rooms (default: quick)")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--balls", type=int, default=300, help="balls timed (default: 300)")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = [write_scene(pathlib.Path(folder), args.size, i) for i in range(args.scenes)]
        write_report(args.output, [print_row(row) for row in measure(files, args.balls)])


def write_scene(folder: pathlib.Path, size: str, index: int) -> pathlib.Path:
    """Writes the voxels of a room, of another seed once all rooms of the size are there."""
    seed, number = divmod(index, num_scenes(size))
    points = scan_scene(size, seed, number).points
    coords = voxel_means(points, voxel_grid(points, VOXEL)).astype(np.float32)
    path = folder / f"{index}.npy"
    np.save(path, coords)
    return path


def measure(files: list[pathlib.Path], count: int) -> list[dict]:
    """Returns a row for each way: balls/s over the same balls in the same random order."""
    trees = [make_tree(np.load(file)) for file in files]
    balls = _balls(files, count)
    ways = {
        "all points looked at": _scanned,
        "a tree made for it": _searched,
        "a tree kept": functools.partial(_searched, trees=trees),
    }
    seconds = {name: [] for name in ways}
    for _ in range(_REPEATS):
        for name, find in ways.items():
            start = time.process_time()
            found = [len(find(files, scene, center)) for scene, center in balls]
            seconds[name].append(time.process_time() - start)
    voxels = np.mean([tree.n for tree in trees])
    facts = {"scenes": len(files), "balls": count, "voxels_per_scene": round(float(voxels))}
    facts["voxels_per_ball"] = round(float(np.mean(found)))
    return [
        rounded({"way": name, **facts, "balls_per_s": count / min(times)}, 3)
        for name, times in seconds.items()
    ]


def _balls(files: list[pathlib.Path], count: int) -> list[tuple[int, Array]]:
    """Draws scenes, and seeds of each."""
    rng, balls = np.random.default_rng(0), []
    for scene in rng.integers(len(files), size=count):
        seeds = grid_seeds(np.load(files[scene]), RADIUS, "ends")
        balls.append((scene, seeds[rng.integers(len(seeds))].astype(np.float32)))
    return balls


def _scanned(files: list[pathlib.Path], scene: int, center: Array) -> Array:
    return scan_ball(np.asarray(np.load(files[scene], "r")), center, RADIUS)


def _searched(files: list[pathlib.Path], scene: int, center: Array, trees: list = ()) -> Array:
    coords = np.load(files[scene]) if not trees else np.asarray(np.load(files[scene], "r"))
    return ball_rows(coords, trees[scene] if trees else make_tree(coords), center, RADIUS)


if __name__ == "__main__":
    main()
