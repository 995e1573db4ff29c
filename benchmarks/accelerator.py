"""The training step and its parts on the accelerator that is there, most important first.

For machines that are rented by the minute: one process, clouds made in no time, one JSON line as
soon as each number is known, and nothing is begun that would not end within `--minutes`:

    python benchmarks/accelerator.py --minutes 10 --output accelerator.json

Preset `paper`, 98 304 rows, on one device. Times are medians of steps that wait for their result.
With PyTorch in the same Python, the same step of the peer is measured, too (TF32, and bfloat16 by
autocast). `--profile FOLDER` writes a trace in which every operation has its own name, and prints
the ten costliest.
"""

import argparse
import functools
import gzip
import importlib.util
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some, too
if "--profile" in sys.argv:  # a command buffer hides what runs in it
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_command_buffer="

import jax
import jax.numpy as jnp
import numpy as np
from forms import deformable, pooling, rigid
from golden import golden_values
from machine_rates import machine_rates
from processes import median_seconds, print_row, rounded, write_report
from step_cases import Case, CaseSpec, make_case
from step_clouds import box_room
from step_peer import peer_arrays, peer_settings, perturbed

from mprm_jax.crf.inference import build_kernels, infer
from mprm_jax.crf.refinement import unary_energies
from mprm_jax.crf.settings import RELEASED
from mprm_jax.ops.attention import channel_attention, spatial_attention
from mprm_jax.presets import PRESETS
from mprm_jax.training.forecast import peak_bytes
from mprm_jax.training.inputs import complete
from mprm_jax.training.parallel import host_device, make_mesh, replicate, shard_batch
from mprm_jax.training.stages import cls_stage
from mprm_jax.training.steps import make_predict_step, make_train_step
from mprm_jax.types import Array

_REPEATS = 10
_RATE_ROWS = 8192  # of a square matrix
_CRF_CLASSES = 20
_COSTLIEST = 10


class Bench:
    """The cases of a run, made when they are first asked for."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self._cases: dict[tuple[str, ...], Case] = {}

    def case(self, *settings: str) -> Case:
        """The step of the preset's buckets on one device."""
        if settings not in self._cases:
            buckets = self.args.rows // self.args.bucket_rows
            size = (
                f"pyramid.bucket_points={self.args.bucket_rows}",
                f"pyramid.buckets_per_step={buckets}",
            )
            spec = CaseSpec(
                preset=self.args.preset,
                settings=(*size, *settings),
                devices=1,
                cloud=None,
                rooms="boxes",
                scenes=2 * buckets,
                points_per_cloud=0,
                clouds_per_bucket=0,
            )
            self._cases[settings] = make_case(spec)
        return self._cases[settings]


def main() -> None:
    begin = time.perf_counter()
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="parts: " + "; ".join(PARTS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--rows", type=int, default=98304, help="of level 0 (default: 98304)")
    parser.add_argument("--bucket-rows", type=int, default=24576, help="of each bucket (24576)")
    parser.add_argument("--minutes", type=float, default=10.0, help="to end in (default: 10)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART")
    parser.add_argument("--profile", type=pathlib.Path, help="folder for a trace of the step")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    if args.rows % args.bucket_rows:
        parser.error(f"--rows {args.rows} is no multiple of --bucket-rows {args.bucket_rows}")
    bench, rows = Bench(args), []
    for name in args.only:
        part, seconds = PARTS[name]
        left = 60 * args.minutes - (time.perf_counter() - begin)
        if left < seconds and rows:
            print(f"{name}: left out, {left:.0f} s are left", file=sys.stderr)
            continue
        for row in part(bench):
            after = {"part": name, "s_after_start": time.perf_counter() - begin}
            rows.append(print_row(rounded(after | row)))
            write_report(args.output, rows)


def steps(bench: Bench, builder: str, dtype: str) -> Iterator[dict]:
    """The whole training step."""
    start = time.perf_counter()
    case = bench.case(f"pyramid.builder={builder}", f"model.dtype={dtype}")
    made = time.perf_counter()
    lowered = case.step.lower(case.state, case.bucket)
    traced = time.perf_counter()
    compiled = lowered.compile()
    seconds = time.perf_counter() - traced
    state = jax.tree.map(jnp.copy, case.state)  # a step consumes its own
    state, metrics = compiled(state, case.bucket)
    first = float(metrics["loss"])

    def step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(compiled(state, case.bucket))

    took = median_seconds(step, _REPEATS)
    stats = jax.local_devices()[0].memory_stats() or {}
    yield {
        "builder": builder,
        "dtype": dtype,
        "device": jax.local_devices()[0].device_kind,
        "points": case.points,
        "clouds": sum(map(len, case.members)),
        "ms": 1000 * took,
        "ms_per_100k_points": 1e8 * took / case.points,
        "first_loss": first,
        "make_s": made - start,
        "trace_s": traced - made,
        "compile_s": seconds,
        "temporaries_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
        "predicted_peak_mb": peak_bytes(compiled) / 1e6,
        "device_peak_mb": stats.get("peak_bytes_in_use", 0) / 1e6 or None,
    }
    if bench.args.profile is not None and builder == "host" and dtype == "float32":
        yield from costliest(step, bench.args.profile)


def costliest(step: Callable[[], None], folder: pathlib.Path) -> Iterator[dict]:
    """The operations of a traced step that take longest."""
    with jax.profiler.trace(str(folder), create_perfetto_trace=True):
        step()
    newest = max(folder.rglob("perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
    with gzip.open(newest) as file:
        events = json.load(file)["traceEvents"]
    total: dict[str, float] = {}
    for event in events:
        if event.get("ph") == "X" and "hlo_op" in event.get("args", {}):
            name = event["args"].get("name") or event["args"]["hlo_op"]
            total[name] = total.get(name, 0.0) + event["dur"]
    for name in sorted(total, key=total.get, reverse=True)[:_COSTLIEST]:
        yield {"operation": name, "ms": total[name] / 1000}


def geometry(bench: Bench) -> Iterator[dict]:
    """Pyramids and lists on the device, as the step builds them."""
    case = bench.case("pyramid.builder=device", "model.dtype=float32")
    buckets = case.config.pyramid.buckets_per_step
    build = jax.jit(lambda bucket: complete(bucket, buckets)).lower(case.bucket).compile()
    yield timed(build, case.bucket) | {"points": case.points}


def forward(bench: Bench) -> Iterator[dict]:
    """Class scores of all clouds, as prediction asks for them."""
    case = bench.case("pyramid.builder=host", "model.dtype=float32")
    stage, mesh = cls_stage(case.config, case.balls.num_classes), make_mesh(jax.local_devices()[:1])
    predict = make_predict_step(stage.scores, mesh)
    whole = jax.jit(lambda bucket: complete(bucket, case.config.pyramid.buckets_per_step).batch)
    bucket = whole(case.bucket)
    compiled = predict.lower(case.state, bucket).compile()
    yield timed(compiled, case.state, bucket) | {"points": case.points}


def rates(_: Bench) -> Iterator[dict]:
    """What the device copies and multiplies in a second."""
    mesh = make_mesh(jax.local_devices()[:1])
    for dtype in ("float32", "bfloat16"):
        found = machine_rates(mesh, dtype, _RATE_ROWS)
        yield {
            "dtype": dtype,
            "copy_gb_per_s": found.copy / 1e9,
            "product_tflop_per_s": found.matmul / 1e12,
        }


def operations(bench: Bench) -> Iterator[dict]:
    """Single operations with their gradients, on the lists of the step."""
    case = bench.case("pyramid.builder=host", "model.dtype=float32")
    local = complete(case.bucket, case.config.pyramid.buckets_per_step).batch
    pyramid = jax.tree.map(jnp.asarray, local.pyramid)
    for operation in (
        pooling(case.config, pyramid),
        rigid(case.config, pyramid),
        deformable(case.config, pyramid),
    ):
        yield gradient_of(operation.name, operation.forms["ours"], *operation.arguments)
    width, narrow = 2 ** (len(pyramid.points)) * case.config.model.first_features, 64
    rows = len(pyramid.points[-1])
    rng = np.random.default_rng(0)
    wide, *asked = (
        jnp.asarray(rng.normal(size=(rows, size)), jnp.float32) for size in (width, *[narrow] * 3)
    )
    clouds = pyramid.clouds[-1], pyramid.num_clouds

    def by_point(queries: Array, keys: Array, values: Array) -> Array:
        return spatial_attention(queries, keys, values, *clouds)

    def by_channel(x: Array) -> Array:
        return channel_attention(x, *clouds)

    yield gradient_of(f"spatial attention, {rows} x {narrow}", by_point, *asked)
    yield gradient_of(f"channel attention, {rows} x {width}", by_channel, wide)


def gradient_of(name: str, function: Callable[..., Array], *arguments: Array) -> dict:
    """Time of a value and its gradient in all arguments."""

    def total(*arguments: Array) -> Array:
        return jnp.sum(jnp.square(function(*arguments)))

    every = tuple(range(len(arguments)))
    run = jax.jit(jax.value_and_grad(total, argnums=every)).lower(*arguments).compile()
    return {"operation": name} | timed(run, *arguments)


def crf(_: Bench) -> Iterator[dict]:
    """Dense CRFs with the released kernels and five iterations."""
    settings = RELEASED.crf
    weights = [kernel.weight for kernel in settings.kernels]
    for count in (100_000, 1_000_000):
        rng = np.random.default_rng(count)
        points, colors = box_room(rng, float(np.sqrt(600 / count)))
        chosen = rng.permutation(len(points))[:count]
        features = np.concatenate([points, colors / 255], axis=1)[chosen].astype(np.float32)
        shares = rng.dirichlet(np.ones(_CRF_CLASSES), len(features)).astype(np.float32)
        unary = unary_energies(shares)

        def build(features: Array = features) -> Any:
            return jax.block_until_ready(build_kernels(features, settings))

        kernels = build()
        built = median_seconds(build, 2)

        def run(kernels: Any = kernels, unary: Array = unary) -> None:
            infer(kernels, unary, weights=weights, num_iterations=5)

        run()
        iterated = median_seconds(run, 2)
        yield {"points": len(features), "build_ms": 1000 * built, "iterate_ms": 1000 * iterated}


def losses(bench: Bench) -> Iterator[dict]:
    """The first loss of the same step on this device and on the CPU."""
    case = bench.case("pyramid.builder=host", "model.dtype=float32")
    for device in (jax.local_devices()[0], host_device()):
        mesh = make_mesh([device])
        stage = cls_stage(case.config, case.balls.num_classes)
        step = make_train_step(stage, case.optimizer, mesh, case.config)
        state = replicate(jax.device_get(case.state), mesh)
        _, metrics = step(state, shard_batch(case.local, mesh))
        yield {"device": device.device_kind, "loss": float(metrics["loss"])}


def golden(_: Bench) -> Iterator[dict]:
    """Operations against the values of the tests."""
    yield from golden_values()


def peer(bench: Bench) -> Iterator[dict]:
    """The same step in PyTorch."""
    if importlib.util.find_spec("torch") is None:
        print("peer: no PyTorch here", file=sys.stderr)
        return
    sys.path.append(str(pathlib.Path(__file__).parent / "peers"))
    import torch
    import torch_step

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    case = bench.case("pyramid.builder=host", "model.dtype=float32")
    whole = jax.device_get(complete(case.bucket, case.config.pyramid.buckets_per_step).batch)
    arrays = peer_arrays(whole, case.config, perturbed(case.state.params))
    for bfloat16 in (False, True):
        found = torch_step.measure(
            arrays, peer_settings(case.config), _REPEATS, device, bfloat16=bfloat16
        )
        yield {
            "device": device,
            "dtype": "bfloat16 by autocast" if bfloat16 else "float32",
            "tf32": device == "cuda" and not bfloat16,
            "torch": found["torch"],
            "points": case.points,
            "ms": 1000 * found["seconds"],
            "ms_per_100k_points": 1e8 * found["seconds"] / case.points,
        }


def timed(compiled: Any, *arguments: Any) -> dict:
    """Milliseconds of a compiled program, and the MB of its temporaries."""
    jax.block_until_ready(compiled(*arguments))
    seconds = median_seconds(lambda: jax.block_until_ready(compiled(*arguments)), _REPEATS)
    temporary = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return {"ms": 1000 * seconds, "temporaries_mb": temporary}


# In the order of what they tell, with the seconds that they may take on a GPU.
PARTS: dict[str, tuple[Callable[[Bench], Iterator[dict]], float]] = {
    "step, lists of the host": (functools.partial(steps, builder="host", dtype="float32"), 0),
    "step, geometry on the device": (
        functools.partial(steps, builder="device", dtype="float32"),
        100,
    ),
    "geometry": (geometry, 30),
    "step, bfloat16": (functools.partial(steps, builder="host", dtype="bfloat16"), 100),
    "forward": (forward, 40),
    "rates": (rates, 20),
    "operations": (operations, 60),
    "CRF": (crf, 60),
    "step, bfloat16, geometry on the device": (
        functools.partial(steps, builder="device", dtype="bfloat16"),
        100,
    ),
    "golden values": (golden, 40),
    "peer": (peer, 60),
    "losses": (losses, 120),
}

if __name__ == "__main__":
    main()
