"""Prediction of one large cloud: points per second and peak memory of `experiments/predict.py`.

Rooms are set side by side, turned, until they make a storey of the wanted number of points. The
network is that of any run of stage seg; speed and memory do not depend on how well it was trained.

    python benchmarks/predict.py --workdir runs/seg-rooms-quick-quick
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys

import numpy as np

from mprm_jax.config import from_json
from mprm_jax.geometry.surfaces import sample_surface
from mprm_jax.machine import describe_machine
from mprm_jax.rooms.generate import scan_scene
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.scans.formats.labeled import LabeledCloud, write_labeled

PREDICT = pathlib.Path(__file__).parents[1] / "experiments" / "predict.py"
RESULT = pathlib.Path(__file__).parent / "results" / "predict.json"
SPACING = 0.05  # meters between points; a mobile scanner at walking pace
PITCH = 10.0  # meters between the middles of rooms
NUM_ROOMS = 16  # different ones


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="run of stage seg")
    parser.add_argument("--points", type=int, default=5_000_000)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("runs/predict"))
    parser.add_argument("--suffix", default=".laz", help="format of the cloud (default: .laz)")
    parser.add_argument("--output", type=pathlib.Path, default=RESULT)
    args, flags = parser.parse_known_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    cloud = args.folder / f"storey{args.points}{args.suffix}"
    if not cloud.exists():
        write_storey(cloud, args.points)
    command = [sys.executable, str(PREDICT), str(cloud), "--workdir", str(args.workdir)]
    command += ["--output", str(args.folder / "labeled"), "--json", *flags]
    values = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    report = {
        "command": "python benchmarks/predict.py --workdir RUN",
        "flags": flags,
        "cloud": {"points": values["points"], "voxels": values["scans"][0]["voxels"]},
        "format": args.suffix,
        "network": network(args.workdir),
        "machine": describe_machine(),
        "seconds": values["seconds"],
        "points_per_second": values["points_per_second"],
        "voxels_per_second": round(values["scans"][0]["voxels"] / values["seconds"], 1),
        "peak_memory_gb": round(kilobytes * 1024 / 1e9, 2),
    }
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))


def write_storey(path: pathlib.Path, num_points: int) -> None:
    """Writes rooms side by side as one cloud of just `num_points` points, none of them labeled."""
    rooms, rng = [room(index) for index in range(NUM_ROOMS)], np.random.default_rng(0)
    mean = np.mean([len(coords) for coords, _ in rooms])
    side = int(np.ceil(np.sqrt(1.1 * num_points / mean)))
    parts, total = [], 0
    for place in range(side * side):
        coords, colors = rooms[place % NUM_ROOMS]
        turned = coords @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]).T if place % 2 else coords
        jitter = rng.normal(0, 0.003, coords.shape)
        parts.append((turned + PITCH * np.array([place % side, place // side, 0]) + jitter, colors))
        total += len(coords)
        if total >= num_points:
            break
    coords, colors = (np.concatenate(x)[:num_points] for x in zip(*parts, strict=True))
    cloud = CloudFile(coords, colors, None, None, None)
    nothing = np.full(len(coords), -1), np.zeros(len(coords))
    write_labeled(path, LabeledCloud(cloud, *nothing, ()))


def room(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, 3] of a made room around its middle, and their colors."""
    scan = scan_scene("quick", 0, index)
    samples = sample_surface(scan.points, scan.faces, SPACING)
    middle = (samples.coords.min(axis=0) + samples.coords.max(axis=0)) / 2
    return samples.coords - middle * [1, 1, 0], scan.colors[samples.vertices]


def network(workdir: pathlib.Path) -> dict:
    """What the speed depends on."""
    config = from_json((workdir / "config.json").read_text(encoding="utf-8"))
    return {
        "preset": config.preset,
        "voxel_size": config.data.voxel_size,
        "radius": config.seg.radius,
        "levels": config.pyramid.num_levels,
        "first_features": config.model.first_features,
        "bucket_points": config.pyramid.bucket_points,
    }


if __name__ == "__main__":
    main()
