"""The geometry of a bucket, built by the host and by the device: time, costs, agreement.

Both get the same balls: the host with one thread, as one input worker has, the device in one
jitted program that also moves the clouds. Bytes and kernels are counted as in `program_costs.py`,
loops that depend on the data once. `different_lists` counts lists that are not the same set in
both, among as many of `lists`; neighbors at equal distance can differ at the cut.

    python benchmarks/pyramid.py --buckets 8192 16384 49152
    python benchmarks/pyramid.py --cloud scan.npz --output pyramid.json
"""

import argparse
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np
from processes import median_seconds, print_row, rounded, write_report
from program_costs import Program
from step_cases import add_data_flags, make_balls, plan_of, spec_of

from mprm_jax.batches.balls import Balls
from mprm_jax.batches.bare_buckets import BareBucketBuilder
from mprm_jax.batches.loader import BucketBuilder
from mprm_jax.config import Config
from mprm_jax.machine import keep_heap
from mprm_jax.training.inputs import complete
from mprm_jax.types import PointPyramid


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_flags(parser)
    parser.add_argument(
        "--buckets", type=int, nargs="+", default=[16384], help="level-0 rows (default: 16384)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="buckets timed (default: 5)")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    keep_heap()
    rows = []
    for size in args.buckets:
        bucket = (f"pyramid.bucket_points={size}", "pyramid.builder=device")
        config, balls = make_balls(spec_of(args, *bucket))
        rows.append(print_row(measure(config, balls, args.repeats)))
        write_report(args.output, rows)


def measure(config: Config, balls: Balls, repeats: int) -> dict:
    """Builds the first bucket of an epoch both ways."""
    members = plan_of(config, balls)[0]
    host, raw = BucketBuilder(balls, config), BareBucketBuilder(balls, config)
    start = time.perf_counter()
    bucket = jax.device_put(raw(members, 0))
    compiled = jax.jit(complete, static_argnums=1).lower(bucket, 1).compile()
    compile_seconds = time.perf_counter() - start
    still = jax.device_put(raw(members, None))
    agreement = compare(host(members, None).batch.pyramid, compiled(still).batch.pyramid)
    overflow = jax.device_get(compiled(bucket).overflow)
    host_seconds = median_seconds(lambda: host(members, 0), repeats)
    seconds = median_seconds(lambda: jax.block_until_ready(compiled(bucket)), repeats)
    points = int(balls.num_points[members[0]].sum())
    memory = compiled.memory_analysis()
    costs = Program(compiled.as_text()).by_module().values()
    return rounded(
        {
            "settings": config.preset,
            "bucket_points": config.pyramid.bucket_points,
            "points": points,
            "clouds": len(members[0]),
            "neighbors": list(config.pyramid.conv_neighbors),
            "device": jax.devices()[0].device_kind,
            "host_ms": 1000 * host_seconds,
            "host_points_per_s": points / host_seconds,
            "device_ms": 1000 * seconds,
            "device_points_per_s": points / seconds,
            "device_over_host": host_seconds / seconds,
            "raw_bucket_ms": 1000 * median_seconds(lambda: raw(members, 0), repeats),
            "compile_s": compile_seconds,
            "device_counted_gb": sum(x.bytes for x in costs) / 1e9,
            "device_kernels": sum(x.kernels for x in costs),
            "device_temporary_mb": memory.temp_size_in_bytes / 1e6,
            "device_result_mb": memory.output_size_in_bytes / 1e6,
            "overflow": int(overflow.rows.sum() + overflow.candidates.sum() + overflow.too_wide),
            **agreement._asdict(),
        }
    )


class Agreement(NamedTuple):
    """How far two pyramids of the same clouds are the same."""

    points_equal: bool  # up to a hundredth of a millimeter
    lists: int
    different_lists: int


def compare(first: PointPyramid, second: PointPyramid) -> Agreement:
    """Compares points of all levels, and all lists as sets."""
    close = (
        np.allclose(a, np.asarray(b), atol=1e-5)
        for a, b in zip(first.points, second.points, strict=True)
    )
    kinds = ((*first.neighbors, *first.pools), (*second.neighbors, *second.pools))
    total, different = 0, 0
    for one, other in zip(*kinds, strict=True):
        same = (np.sort(one, axis=1) == np.sort(np.asarray(other), axis=1)).all(axis=1)
        total, different = total + len(same), different + int(np.sum(~same))
    return Agreement(all(close), total, different)


if __name__ == "__main__":
    main()
