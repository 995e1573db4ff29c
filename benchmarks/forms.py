"""Forms of the costly operations beside each other: time and memory of a value and its gradient.

On the neighbor lists of one bucket, with the widths of the preset. `ours` is what the network
computes; the others are what it was chosen over. `difference` is the largest one of a gradient
from that of `ours`, relative to the largest entry.

    python benchmarks/forms.py --output benchmarks/results/forms.json
"""

import argparse
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from processes import median_seconds, print_row, rounded, write_report
from step_cases import add_data_flags, make_balls, plan_of, spec_of

from mprm_jax.batches.loader import BucketBuilder
from mprm_jax.config import Config
from mprm_jax.machine import keep_heap
from mprm_jax.models.layers import scaled_kernel
from mprm_jax.ops.deformable import deformable_kpconv, find_reach
from mprm_jax.ops.kpconv import kpconv, linear_influence, mix
from mprm_jax.ops.pooling import neighbor_max
from mprm_jax.ops.rows import gather_rows
from mprm_jax.types import Array, PointPyramid

_CHUNK = 256  # rows at a time
_OFFSETS = 0.2  # extents, deviation of the offsets


class Operation(NamedTuple):
    """Forms of one operation, all functions of the same arrays."""

    name: str
    forms: dict[str, Callable[..., Array]]
    arguments: tuple[Array, ...]  # gradients are those of all


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_flags(parser)
    parser.set_defaults(points_per_cloud=16384)
    parser.add_argument("--repeats", type=int, default=7, help="calls timed (default: 7)")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    keep_heap()
    size = args.points_per_cloud
    bucket = (f"pyramid.bucket_points={size}", "pyramid.builder=host")
    config, balls = make_balls(spec_of(args, *bucket, clouds_per_bucket=1))
    members = plan_of(config, balls)[0]
    pyramid = BucketBuilder(balls, config)(members, None).batch.pyramid
    rows = []
    for operation in (
        rigid(config, pyramid),
        deformable(config, pyramid),
        pooling(config, pyramid),
    ):
        for row in measure(operation, args.repeats):
            rows.append(print_row(row))
            write_report(args.output, rows)


def measure(operation: Operation, repeats: int) -> list[dict]:
    """One row per form; the forms take turns."""
    compiled = {name: _compile(form, operation.arguments) for name, form in operation.forms.items()}
    gradients = {name: run(*operation.arguments) for name, run in compiled.items()}
    times: dict[str, list[float]] = {name: [] for name in compiled}
    for _ in range(repeats):
        for name, run in compiled.items():
            call = functools.partial(run, *operation.arguments)
            times[name].append(median_seconds(lambda c=call: jax.block_until_ready(c()), 1))
    return [
        rounded(
            {
                "operation": operation.name,
                "form": name,
                "device": jax.devices()[0].device_kind,
                "ms": 1000 * float(np.median(times[name])),
                "temporary_mb": compiled[name].memory_analysis().temp_size_in_bytes / 1e6,
                "difference": _difference(gradients[name], gradients["ours"]),
            }
        )
        for name in compiled
    ]


def rigid(config: Config, pyramid: PointPyramid) -> Operation:
    """The convolution of the first bottleneck."""
    points, neighbors = pyramid.points[0], pyramid.neighbors[0]
    extent, width = _extent(config, 0), config.model.first_features // 2
    kernel = {"kernel_points": scaled_kernel(15, extent), "extent": extent}

    def run(queries: Array, neighbors: Array, x: Array, weights: Array) -> Array:
        return kpconv(queries, points, neighbors, x, weights=weights, **kernel)

    def ours(x: Array, weights: Array) -> Array:
        return run(points, neighbors, x, weights)

    def chunked(x: Array, weights: Array) -> Array:
        return _by_chunks(lambda q, n: run(q, n, x, weights), points, neighbors)

    order = _along_curve(np.asarray(points), extent)
    rank = np.append(np.argsort(order), len(points)).astype(np.int32)

    def along_curve(x: Array, weights: Array) -> Array:
        lists = rank[neighbors[order]]
        return kpconv(points[order], points[order], lists, x[order], weights=weights, **kernel)[
            rank[:-1]
        ]

    def point_by_point(x: Array, weights: Array) -> Array:
        positions = gather_rows(points, neighbors) - points[:, None]
        values = gather_rows(x, neighbors)

        def add(total: Array, learned: tuple[Array, Array]) -> tuple[Array, None]:
            point, weight = learned
            influence = linear_influence(positions, point[None, None], extent)
            return total + jnp.sum(influence * values, axis=1) @ weight, None

        start = jnp.zeros((len(points), width))
        return jax.lax.scan(add, start, (kernel["kernel_points"], weights))[0]

    read = _reads_with_inverse_lists(np.asarray(neighbors), len(points))

    def inverse_lists(x: Array, weights: Array) -> Array:
        positions = gather_rows(points, neighbors) - points[:, None]
        influence = linear_influence(kernel["kernel_points"][None], positions, extent)
        return mix(jnp.einsum("mkh,mhc->mkc", influence, read(x)), weights)

    forms = {
        "ours": ours,
        f"{_CHUNK} rows at a time": chunked,
        "rows along a curve": along_curve,
        "one kernel point after the other": point_by_point,
        "gradient through inverse lists": inverse_lists,
    }
    return Operation(f"rigid, {_shape(neighbors, width)}", forms, _learned(len(points), width))


def deformable(config: Config, pyramid: PointPyramid) -> Operation:
    """A deformable convolution of the second level, offsets given."""
    points, neighbors = pyramid.points[1], pyramid.neighbors[1]
    extent, width = _extent(config, 1), config.model.first_features
    kernel = {"kernel_points": scaled_kernel(15, extent), "extent": extent}
    noise = np.random.default_rng(1).normal(size=(len(points), 15, 3))
    reach = functools.partial(find_reach, width=config.model.reach_neighbors, **kernel)

    def run(queries, neighbors, offsets, x, weights) -> Array:
        return deformable_kpconv(
            queries, points, neighbors, x, offsets=offsets, weights=weights, **kernel
        )

    def in_reach(queries, neighbors, offsets, x, weights) -> Array:
        found = reach(queries, points, neighbors, offsets=offsets)
        return run(queries, found.neighbors, offsets, x, weights)

    def ours(x: Array, weights: Array, offsets: Array) -> Array:
        return in_reach(points, neighbors, offsets, x, weights)

    def chunked(x: Array, weights: Array, offsets: Array) -> Array:
        rows = points, neighbors, offsets
        return _by_chunks(lambda *part: in_reach(*part, x, weights), *rows)

    def whole(x: Array, weights: Array, offsets: Array) -> Array:
        return run(points, neighbors, offsets, x, weights)

    forms = {"ours": ours, f"{_CHUNK} rows at a time": chunked, "the whole list": whole}
    offsets = jnp.asarray(_OFFSETS * extent * noise, jnp.float32)
    learned = (*_learned(len(points), width), offsets)
    return Operation(f"deformable, {_shape(neighbors, width)}", forms, learned)


def pooling(config: Config, pyramid: PointPyramid) -> Operation:
    """The maximum of the last strided shortcut."""
    pools, width = pyramid.pools[-1], config.model.first_features * 2**2
    features = _learned(len(pyramid.points[-2]), width)[:1]

    def at_once(x: Array) -> Array:
        largest = jnp.max(gather_rows(x, pools, fill=-jnp.inf), axis=1)
        return jnp.where(jnp.any(pools < len(x), axis=1)[:, None], largest, 0.0)

    forms = {"ours": lambda x: neighbor_max(x, pools), "all slots at once": at_once}
    return Operation(f"maximum, {_shape(pools, width)}", forms, features)


def _by_chunks(function: Callable[..., Array], *rows: Array) -> Array:
    """`function(*rows)`, some rows at a time; the gradient computes each chunk again."""
    num_rows = len(rows[0])
    # The first rows fill the last chunk; what comes of them is cut off.
    padded = [jnp.concatenate([x, x[: -num_rows % _CHUNK]]) for x in rows]
    chunks = tuple(x.reshape(-1, _CHUNK, *x.shape[1:]) for x in padded)
    found = jax.lax.map(lambda part: jax.checkpoint(function)(*part), chunks)
    return found.reshape(-1, *found.shape[2:])[:num_rows]


def _along_curve(points: Array, cell: float) -> Array:
    """Order of points along a Z-order curve through cells of a grid."""
    cells = np.floor((points - points.min(axis=0)) / cell).astype(np.int64)
    code = np.zeros(len(points), np.int64)
    for bit in range(16):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")


def _reads_with_inverse_lists(neighbors: Array, num_rows: int) -> Callable[[Array], Array]:
    """`gather_rows(x, neighbors)` whose gradient gathers too: each row knows its readers."""
    flat = neighbors.ravel()
    order, counts = np.argsort(flat, kind="stable"), np.bincount(flat, minlength=num_rows + 1)
    starts = np.cumsum(counts) - counts
    slots = np.arange(counts[:num_rows].max())[None]
    readers = order[np.minimum(starts[:num_rows, None] + slots, flat.size - 1)]
    readers = np.where(slots < counts[:num_rows, None], readers, flat.size).astype(np.int32)

    @jax.custom_vjp
    def read(x: Array) -> Array:
        return gather_rows(x, neighbors)

    def backward(_: None, grad: Array) -> tuple[Array]:
        return (jnp.sum(gather_rows(grad.reshape(flat.size, -1), readers), axis=1),)

    read.defvjp(lambda x: (read(x), None), backward)
    return read


def _compile(form: Callable[..., Array], arguments: tuple[Array, ...]) -> Any:
    """The gradients of a weighted sum of the result, compiled."""

    def loss(arguments: tuple[Array, ...]) -> Array:
        result = form(*arguments)
        return jnp.sum(result * jnp.cos(jnp.arange(result.size)).reshape(result.shape))

    return jax.jit(lambda *arguments: jax.grad(loss)(arguments)).lower(*arguments).compile()


def _difference(found: Any, expected: Any) -> float:
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)


def _learned(num_rows: int, width: int) -> tuple[Array, Array]:
    """Features and weights at random."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(15, width, width)) / np.sqrt(15 * width)
    features = rng.normal(size=(num_rows, width))
    return jnp.asarray(features, jnp.float32), jnp.asarray(weights, jnp.float32)


def _extent(config: Config, level: int) -> float:
    return config.model.kernel_extent * config.data.voxel_size * 2**level


def _shape(lists: Array, width: int) -> str:
    return f"{lists.shape[0]} x {lists.shape[1]}, {width} channels"


if __name__ == "__main__":
    main()
