"""The training step of the classifier beside the same step in PyTorch, on the same clouds.

Both get the same weights, points and neighbor lists; dropout is off in both, so that their losses
and gradients can be compared first: without agreement no ratio is reported. Every run has its own
process, ours and the peer's in turn. The peer reads no padding, keeps its heap, and uses all
threads. Its Python needs torch and numpy:

    python benchmarks/step_peer.py --peer /path/to/python/with/torch
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

import jax
import numpy as np
from processes import (
    median_seconds,
    peak_memory_mb,
    print_row,
    restart_peak,
    rounded,
    run_json,
    run_worker,
    write_report,
)
from step import prepare_process
from step_cases import CaseSpec, add_data_flags, make_case, read_spec, spec_of

from mprm_jax.config import Config
from mprm_jax.geometry.kernel_points import KERNEL_RADIUS, unit_kernel
from mprm_jax.training.parallel import replicate
from mprm_jax.types import Array, Batch

PEER = pathlib.Path(__file__).parent / "peers" / "torch_step.py"
HEAP = {  # of glibc, as `keep_heap` sets them for us
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "MALLOC_ARENA_MAX": "1",
}
TOLERANCE = 1e-3  # relative; float32 sums over 16 k rows in another order
NOISE = 0.02  # added to all weights, so that gates and offsets do something


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_flags(parser)
    parser.set_defaults(points_per_cloud=16384)
    parser.add_argument("--peer", required=True, help="a Python that imports torch")
    parser.add_argument("--repeats", type=int, default=5, help="steps per process (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each (default: 3)")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        text, folder, cache = args.worker
        prepare_process(read_spec(text), cache)
        print(json.dumps(work(read_spec(text), pathlib.Path(folder), args.repeats)))
        return
    size = args.points_per_cloud
    bucket = (f"pyramid.bucket_points={size}", "pyramid.builder=host", "model.dropout=0.0")
    row = compare(spec_of(args, *bucket, clouds_per_bucket=1), args)
    print_row(row)
    write_report(args.output, [row])


def compare(spec: CaseSpec, args: argparse.Namespace) -> dict:
    """Medians over the rounds, and their ratio.

    Raises:
      ValueError: losses or gradients differ.
    """
    ours, peer = [], []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        worker = ["--peer", args.peer, "--repeats", str(args.repeats)]
        worker += ["--worker", json.dumps(spec._asdict()), folder, cache]
        run_worker(__file__, *worker)  # compiles
        for _ in range(args.rounds):
            ours.append(run_worker(__file__, *worker))
            inputs = str(pathlib.Path(folder) / "inputs.npz")
            settings = json.dumps(ours[-1]["settings"])
            command = [args.peer, str(PEER), inputs, settings, str(args.repeats)]
            peer.append(run_json(command, HEAP))
            require_agreement(ours[-1]["first"], peer[-1]["first"])
    points = ours[0]["points"]
    row = {"settings": [spec.preset, *spec.settings], "points": points, "torch": peer[0]["torch"]}
    for name, runs in (("ours", ours), ("peer", peer)):
        seconds = statistics.median(run["seconds"] for run in runs)
        row[f"{name}_points_per_s"] = points / seconds
        row[f"{name}_peak_mb"] = statistics.median(run["peak_mb"] for run in runs)
    row["speedup"] = row["ours_points_per_s"] / row["peer_points_per_s"]
    row["memory_ratio"] = row["ours_peak_mb"] / row["peer_peak_mb"]
    return rounded(row)


def require_agreement(ours: dict[str, float], peer: dict[str, float]) -> None:
    """Compares all losses and the norm of the gradients.

    Raises:
      ValueError: they differ.
    """
    for name, value in peer.items():
        if not abs(ours[name] - value) <= TOLERANCE * max(abs(value), 1e-3):
            raise ValueError(
                f"{name} is {ours[name]:.6g} here and {value:.6g} of the peer: they do not "
                "compute the same step, so that a ratio of their speeds would mean nothing."
            )


def work(spec: CaseSpec, folder: pathlib.Path, repeats: int) -> dict:
    """Stores the inputs of the peer, and measures our step in this process."""
    case = make_case(spec)
    params = perturbed(case.state.params)
    state = case.state._replace(params=replicate(params, case.bucket.features.sharding.mesh))
    np.savez(folder / "inputs.npz", **peer_arrays(case.local, case.config, params))
    compiled = case.step.lower(state, case.bucket).compile()
    state, metrics = compiled(state, case.bucket)
    first = {name: float(value) for name, value in jax.device_get(metrics).items()}

    def step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled(state, case.bucket))

    median_seconds(step, 1)
    restart_peak()
    seconds = median_seconds(step, repeats)
    return {
        "first": first,
        "seconds": seconds,
        "peak_mb": peak_memory_mb(),
        "points": case.points,
        "settings": peer_settings(case.config),
    }


def perturbed(params) -> dict:
    """The weights plus some noise, on the host."""
    rng = np.random.default_rng(6)

    def add(x):
        return np.asarray(x) + (NOISE * rng.standard_normal(x.shape)).astype(np.float32)

    return jax.tree.map(add, jax.device_get(params))


def peer_settings(config: Config) -> dict:
    """What the peer needs to know of a config."""
    model = config.model
    return {
        "voxel_size": config.data.voxel_size,
        "kernel_extent": model.kernel_extent,
        "kernel_radius": KERNEL_RADIUS,
        "paths": model.paths,
        "keep": model.keep,
        "negative_slope": model.negative_slope,
    }


def peer_arrays(batch: Batch, config: Config, params: dict) -> dict[str, Array]:
    """One bucket without its padding, and the weights by name."""
    pyramid, places = batch.pyramid, batch.pyramid.num_clouds
    sizes = [int(np.sum(clouds < places)) for clouds in pyramid.clouds]

    def rows(lists, level: int, into: int):
        return np.minimum(lists[: sizes[level]], sizes[into]).astype(np.int32)

    arrays = {"kernel": unit_kernel(config.model.num_kernel_points)}
    for i, size in enumerate(sizes):
        arrays[f"points_{i}"] = pyramid.points[i][:size]
        arrays[f"neighbors_{i}"] = rows(pyramid.neighbors[i], i, i)
        if i + 1 < len(sizes):
            arrays[f"pools_{i}"] = rows(pyramid.pools[i], i + 1, i)
    real = pyramid.real
    arrays["features"] = batch.features[: sizes[0]]
    arrays["top_sizes"] = np.bincount(pyramid.clouds[-1], minlength=places)[:places][real]
    arrays["labels"] = batch.cloud_labels[real]
    for key, value in jax.tree_util.tree_leaves_with_path(params):
        arrays["parameter/" + "/".join(part.key for part in key)] = np.asarray(value)
    return arrays


if __name__ == "__main__":
    sys.exit(main())
