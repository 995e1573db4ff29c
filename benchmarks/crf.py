"""Speed, memory and accuracy of the dense CRF, beside pydensecrf if a Python has it.

Every size runs in its own processes, ours and the peer's in turn; times are medians. Both get the
same features and energies as NumPy arrays, points in random order, and return NumPy arrays.

    python benchmarks/crf.py --peer /path/to/python/with/pydensecrf
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from crf_clouds import Cloud, make_cloud

from mprm_jax.crf.inference import build_kernels, dense_crf, infer
from mprm_jax.crf.refinement import unary_energies
from mprm_jax.crf.settings import RELEASED
from mprm_jax.machine import describe_machine
from mprm_jax.types import Array

HERE = pathlib.Path(__file__).parent
RESULT = HERE / "results" / "crf.json"
SETTINGS = RELEASED.crf
POSITION = dataclasses.replace(SETTINGS, kernels=SETTINGS.kernels[:1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[20_000, 100_000, 300_000, 10**6])
    parser.add_argument("--iterations", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--repeats", type=int, default=5, help="processes per size (default: 5)")
    parser.add_argument("--accuracy", type=int, nargs="*", default=[2000, 8000], help="sizes")
    parser.add_argument("--seeds", type=int, default=3, help="clouds per size of --accuracy")
    parser.add_argument("--peer", help="a Python that imports pydensecrf; without, left blank")
    parser.add_argument("--output", type=pathlib.Path, default=RESULT)
    parser.add_argument("--worker", type=pathlib.Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(*args.worker, args.iterations)
    report = {
        "command": "python benchmarks/crf.py",
        "machine": describe_machine() | {"devices": str(jax.devices()), "peer": bool(args.peer)},
        "settings": dataclasses.asdict(SETTINGS),
        "classes": 20,
        "accuracy": [],
        "speed": [],
    }
    args.output.parent.mkdir(exist_ok=True)
    for section, sizes, measure in (
        ("accuracy", args.accuracy, measure_accuracy),
        ("speed", args.sizes, measure_speed),
    ):
        for size in sizes:
            report[section] += measure(size, args)
            args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(json.dumps(report[section][-1]), flush=True)


def measure_accuracy(size: int, args: argparse.Namespace) -> list[dict]:
    """Errors of the lattice and of the peer against the exact mean field, per seed and kernels."""
    rows = []
    for seed in range(args.seeds):
        cloud = make_cloud(size, seed, "quick")
        for name, settings in (("d=3", POSITION), ("d=3 and 6", SETTINGS)):
            features, unary = inputs(cloud)
            exact = dense_crf(features, unary, settings, method="exact")
            ours = dense_crf(features, unary, settings)
            row = {"points": size, "seed": seed, "kernels": name}
            row["ours"] = errors(ours.marginals, exact.marginals)
            if args.peer:
                with tempfile.TemporaryDirectory() as folder:
                    store(cloud, pathlib.Path(folder) / "inputs.npz", settings)
                    result = run_peer(pathlib.Path(folder), args.peer, [settings.num_iterations])
                marginals = result[f"marginals_{settings.num_iterations}"]
                row["peer"] = errors(marginals, exact.marginals)
                row["ours to peer"] = errors(ours.marginals, marginals)
            rows.append(row)
    return rows


def measure_speed(size: int, args: argparse.Namespace) -> list[dict]:
    """Median seconds, and peak memory in MB."""
    runs = {"ours": [], "peer": []}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        cloud = make_cloud(size, seed=0)
        store(cloud, folder / "inputs.npz", SETTINGS)
        for _ in range(args.repeats):
            runs["ours"].append(run_ours(folder, args.iterations))
            if args.peer:
                runs["peer"].append(run_peer(folder, args.peer, args.iterations))
    row = {"points": size} | {who: summarize(results) for who, results in runs.items() if results}
    for iterations in args.iterations if args.peer else ():
        peer, ours = (row[who][f"total_{iterations}"] for who in ("peer", "ours"))
        row[f"speedup_{iterations}"] = round(peer / ours, 2)
    return [row]


def inputs(cloud: Cloud) -> tuple[Array, Array]:
    """Feature columns and unary energies."""
    features = np.concatenate([cloud.coords, cloud.colors], axis=1)
    return features, unary_energies(cloud.probabilities)


def errors(marginals: Array, exact: Array) -> dict[str, float]:
    difference = np.abs(marginals - exact)
    return {
        "mean": float(f"{difference.mean():.3g}"),
        "rms": float(f"{np.sqrt(np.square(difference).mean()):.3g}"),
        "max": float(f"{difference.max():.3g}"),
        "same label": round(float((marginals.argmax(1) == exact.argmax(1)).mean()), 4),
    }


def store(cloud: Cloud, path: pathlib.Path, settings) -> None:
    """Writes the inputs of both: features from the middle of the cloud, as ours places them."""
    features, unary = inputs(cloud)
    middle = (features.min(axis=0).astype(np.float64) + features.max(axis=0)) / 2
    scaled = {
        f"kernel_{k}": ((features - middle)[:, kernel.columns] / kernel.widths).astype(np.float32)
        for k, kernel in enumerate(settings.kernels)
    }
    weights = [kernel.weight for kernel in settings.kernels]
    np.savez(path, features=features, unary=unary, weights=weights, **scaled)


def run_ours(folder: pathlib.Path, iterations: list[int]) -> dict[str, Array]:
    command = [sys.executable, __file__, "--iterations", *map(str, iterations), "--worker"]
    return _run(command, folder)


def run_peer(folder: pathlib.Path, python: str, iterations: list[int]) -> dict[str, Array]:
    """The peer's times, memory and marginals."""
    command = [python, str(HERE / "crf_peer.py"), "--iterations", *map(str, iterations), "--"]
    return _run(command, folder)


def _run(command: list[str], folder: pathlib.Path) -> dict[str, Array]:
    outputs = folder / "outputs.npz"
    subprocess.run([*command, str(folder / "inputs.npz"), str(outputs)], check=True)
    return dict(np.load(outputs))


def work(path: pathlib.Path, outputs: pathlib.Path, iterations: list[int]) -> None:
    """Measures one size in this process: the first run, which compiles, then one run of each."""
    data = np.load(path)
    features, unary, weights = data["features"], data["unary"], list(data["weights"])
    jax.block_until_ready(jax.numpy.zeros(1))
    before, results = peak_memory(), {}

    def run(num_iterations: int) -> dict[str, float]:
        start = time.perf_counter()
        kernels = jax.block_until_ready(build_kernels(features, SETTINGS))
        built = time.perf_counter()
        infer(kernels, unary, weights=weights, num_iterations=num_iterations)
        return {"build": built - start, "iterate": time.perf_counter() - built}

    first = run(iterations[0])
    for number in iterations:
        results |= {f"{part}_{number}": seconds for part, seconds in run(number).items()}
    results["compile"] = sum(first.values()) - sum(run(iterations[0]).values())
    np.savez(outputs, memory=peak_memory() - before, peak=peak_memory(), **results)


def summarize(results: list[dict]) -> dict[str, float]:
    """Medians of all numbers, and of totals."""
    names = [name for name in results[0] if not name.startswith("marginals")]
    row = {name: statistics.median(float(result[name]) for result in results) for name in names}
    for number in [name.partition("_")[2] for name in names if name.startswith("build")]:
        totals = [float(r[f"build_{number}"] + r[f"iterate_{number}"]) for r in results]
        row[f"total_{number}"] = statistics.median(totals)
    return {
        name: round(value, 1 if name in ("memory", "peak") else 4) for name, value in row.items()
    }


def peak_memory() -> float:
    """Most memory this process has used, in MB."""
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
