"""Speed, memory and compile time of the classifier's training step, beside what the machine can do.

Every case runs in processes of its own: one compiles with an empty cache, the next finds the
program there and is measured. One JSON line per case:

    python benchmarks/step.py --buckets 8192 16384 --dtypes float32 bfloat16 --devices 1 2
    python benchmarks/step.py --cloud scan.npz --builders device --output step.json

`roofline_share` is the time that the program's bytes and operations would take at the rates
measured in the same process, over the time it took; the bytes are those the compiler counts, so
that data found in a cache count too, and of a loop (the maxima of strided shortcuts, the candidates
of pyramids built on the device) only one pass.
"""

import argparse
import itertools
import json
import pathlib
import tempfile
import time
from collections.abc import Iterator

import jax
from machine_rates import MachineRates, machine_rates
from processes import (
    median_seconds,
    peak_memory_mb,
    print_row,
    restart_peak,
    rounded,
    run_worker,
    write_report,
)
from step_cases import Case, CaseSpec, add_data_flags, make_case, read_spec, spec_of

from mprm_jax.batches.loader import make_builder
from mprm_jax.machine import keep_heap
from mprm_jax.training.forecast import peak_bytes
from mprm_jax.training.parallel import make_mesh, use_cpu_cores

NETWORKS = {"mprm": (), "pcam": ("model.paths=('plain',)",)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_flags(parser)
    parser.add_argument("--buckets", type=int, nargs="*", help="level-0 rows; default: preset's")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--builders", nargs="*", default=[], help="host, device; default: auto")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["mprm"])
    parser.add_argument(
        "--deformable", nargs="+", choices=("true", "false"), default=[], help="default: preset's"
    )
    parser.add_argument("--devices", type=int, nargs="+", default=[1])
    parser.add_argument("--repeats", type=int, default=5, help="steps timed (default: 5)")
    parser.add_argument("--profile", type=pathlib.Path, help="folder for traces")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        spec = read_spec(args.worker)
        prepare_process(spec, args.cache)
        print(json.dumps(measure(spec, args.repeats, args.profile)))
        return
    rows = []
    for spec in cases(args):
        rows.append(print_row(measure_apart(spec, args.repeats, args.profile)))
        write_report(args.output, rows)


def cases(args: argparse.Namespace) -> Iterator[CaseSpec]:
    """Every combination of the flags."""
    choices = itertools.product(
        [(f"pyramid.bucket_points={size}",) for size in args.buckets or ()] or [()],
        [(f"model.dtype={dtype}",) for dtype in args.dtypes],
        [(f"pyramid.builder={builder}",) for builder in args.builders] or [()],
        [NETWORKS[network] for network in args.networks],
        [(f"model.deformable={value.capitalize()}",) for value in args.deformable] or [()],
        args.devices,
    )
    for *settings, devices in choices:
        yield spec_of(args, *itertools.chain(*settings), devices=devices)


def measure_apart(spec: CaseSpec, repeats: int, profile: pathlib.Path | None = None) -> dict:
    """Measures in a process that finds the program compiled, after one that does not."""
    arguments = ["--worker", json.dumps(spec._asdict()), "--repeats", str(repeats)]
    with tempfile.TemporaryDirectory() as cache:
        cold = run_worker(__file__, *arguments, "--cache", cache)
        if profile is not None:
            arguments += ["--profile", str(profile)]
        warm = run_worker(__file__, *arguments, "--cache", cache)
    row = warm | {"compile_cold_s": cold["compile_s"], "compile_warm_s": warm["compile_s"]}
    del row["compile_s"]
    return row


def prepare_process(spec: CaseSpec, cache: str | None) -> None:
    """Devices, heap and program cache, before anything else uses JAX."""
    keep_heap()
    use_cpu_cores(spec.devices)
    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def measure(spec: CaseSpec, repeats: int, profile: pathlib.Path | None = None) -> dict:
    """Compiles and times the step of a case in this process."""
    case = make_case(spec)
    start = time.perf_counter()
    compiled = case.step.lower(case.state, case.bucket).compile()
    compile_seconds = time.perf_counter() - start
    state, metrics = compiled(case.state, case.bucket)
    jax.block_until_ready(state)
    restart_peak()

    def step() -> None:
        nonlocal state, metrics
        state, metrics = compiled(state, case.bucket)
        jax.block_until_ready(state)

    seconds = median_seconds(step, repeats)
    peak = peak_memory_mb()
    if profile is not None:
        with jax.profiler.trace(str(profile)):
            step()
    build = make_builder(case.balls, case.config)
    mesh = make_mesh(jax.local_devices()[: spec.devices])
    return rounded(
        {
            **_described(spec, case),
            "step_ms": 1000 * seconds,
            "points_per_s": case.points / seconds,
            "ms_per_100k_points": 1e8 * seconds / case.points,
            "host_build_ms": 1000 * median_seconds(lambda: build(case.members, 0), 2),
            "loss": float(metrics["loss"]),
            "compile_s": compile_seconds,
            **_memory(compiled, peak),
            **roofline(
                compiled, machine_rates(mesh, case.config.model.dtype), spec.devices, seconds
            ),
        }
    )


def roofline(compiled, rates: MachineRates, num_devices: int, seconds: float) -> dict:
    """What the compiler counts of a step on all devices, and its least time at measured rates."""
    cost = compiled.cost_analysis() or {}
    moved = num_devices * cost.get("bytes accessed", 0.0)
    operations = num_devices * cost.get("flops", 0.0)
    bound = max(moved / rates.copy, operations / rates.matmul)
    return {
        "gigabytes": moved / 1e9,
        "gigaflop": operations / 1e9,
        "copy_gb_per_s": rates.copy / 1e9,
        "matmul_gflop_per_s": rates.matmul / 1e9,
        "roofline_ms": 1000 * bound,
        "roofline_share": bound / seconds,
    }


def _described(spec: CaseSpec, case: Case) -> dict:
    """What was measured."""
    config = case.config
    return {
        "preset": config.preset,
        "settings": " ".join(spec.settings),
        "paths": len(config.model.paths),
        "deformable": config.model.deformable,
        "dtype": config.model.dtype,
        "builder": config.pyramid.builder,
        "bucket_points": config.pyramid.bucket_points,
        "neighbors": list(config.pyramid.conv_neighbors),
        "devices": f"{spec.devices} x {jax.local_devices()[0].device_kind}",
        "clouds": sum(map(len, case.members)),
        "points": case.points,
        "padding_share": 1 - case.points / (spec.devices * config.pyramid.bucket_points),
    }


def _memory(compiled, peak: float | None) -> dict:
    """Of the program on one device, of the device, and of the process while it steps."""
    device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "program_mb": peak_bytes(compiled) / 1e6,
        "device_peak_mb": None if device is None else device / 1e6,
        "process_peak_mb": peak,
    }


if __name__ == "__main__":
    main()
