"""Cost of the training step against the size of clouds, their number, and their neighbors.

Every case runs as in `step.py`. Also how much of the buckets is padding, by their size. Writes a
JSON report, and a picture of the same name beside it:

    python benchmarks/scaling.py --output benchmarks/results/scaling.json
"""

import argparse
import pathlib
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
from processes import print_row, rounded, write_report
from step import measure_apart
from step_cases import CaseSpec, add_data_flags, make_balls, plan_of, spec_of

from mprm_jax.batches.loader import BucketBuilder
from mprm_jax.presets import PRESETS

SIZES = (2048, 4096, 8192, 16384)  # points of the one cloud of a bucket
COUNTS = (1, 2, 4, 8)  # clouds of a bucket
WIDTHS = (8, 16, 24, 32)  # slots of every list
BUCKETS = (8192, 16384, 32768, 49152)  # level-0 rows, for padding
_SAMPLED = 6  # buckets built to see the padding of coarser levels
_SMALL = 2048  # points of a cloud where their number varies


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_flags(parser)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--buckets", type=int, nargs="*", default=BUCKETS)
    parser.add_argument("--repeats", type=int, default=5, help="steps timed (default: 5)")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report; .png beside it")
    args = parser.parse_args()
    rows = []
    for series, value, spec in cases(args):
        row = measure_apart(spec, args.repeats)
        rows.append(print_row({"series": series, "value": value, **row}))
        write_report(args.output, rows)
    for size in args.buckets:
        spec = spec_of(args, f"pyramid.bucket_points={size}", points_per_cloud=0)
        rows.append(print_row({"series": "padding", "value": size, **padding(spec)}))
        write_report(args.output, rows)
    if args.output:
        draw(rows, args.output.with_suffix(".png"))


def cases(args: argparse.Namespace) -> list[tuple[str, int, CaseSpec]]:
    """The timed cases: name of the series, what varies, case."""
    found = []
    for size in args.sizes:
        spec = spec_of(args, f"pyramid.bucket_points={size}", points_per_cloud=size)
        found.append(("points of a cloud", size, spec._replace(clouds_per_bucket=1)))
    for count in args.counts:
        spec = spec_of(args, f"pyramid.bucket_points={count * _SMALL}", points_per_cloud=_SMALL)
        found.append(("clouds of a bucket", count, spec._replace(clouds_per_bucket=count)))
    levels = PRESETS[args.preset]().pyramid.num_levels
    for width in args.widths:
        lists = (
            f"pyramid.conv_neighbors={(width,) * levels}",
            f"pyramid.pool_neighbors={(width,) * (levels - 1)}",
            "model.deformable=False",
            "pyramid.bucket_points=8192",
        )
        spec = spec_of(args, *lists, points_per_cloud=8192, clouds_per_bucket=1)
        found.append(("neighbors", width, spec))
    return found


def padding(spec: CaseSpec) -> dict:
    """Share of rows without a point: of level 0 over an epoch, of coarser ones in a few buckets."""
    config, balls = make_balls(spec)
    plan = plan_of(config, balls)
    filled = [balls.num_points[step[0]].sum() / config.pyramid.bucket_points for step in plan]
    build = BucketBuilder(balls, config)
    sampled = plan[:_SAMPLED]
    pyramids = [build(step, None).batch.pyramid for step in sampled]
    places = config.pyramid.max_clouds
    levels = [
        float(np.mean([np.mean(pyramid.clouds[level] == places) for pyramid in pyramids]))
        for level in range(1, config.pyramid.num_levels)
    ]
    shares = {f"padding_level{i + 1}": share for i, share in enumerate(levels)}
    # The last bucket of an epoch is as full as it happens to be.
    whole = filled[:-1] if len(filled) > 1 else filled
    first = {"buckets": len(plan), "padding_level0": 1 - float(np.mean(whole))}
    return rounded(first | shares)


def draw(rows: Sequence[dict], path: pathlib.Path) -> None:
    """One panel per series: milliseconds and memory, or shares of padding."""
    names = list(dict.fromkeys(row["series"] for row in rows))
    figure = matplotlib.figure.Figure(figsize=(4 * len(names), 3.4), dpi=120)
    axes = figure.subplots(1, len(names), squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        found = [row for row in rows if row["series"] == name]
        values = [row["value"] for row in found]
        ax.set_xlabel("rows of a bucket" if name == "padding" else name)
        ax.set_xticks(values, [str(value) for value in values], rotation=30)
        if name == "padding":
            ax.set_ylabel("padding, % of rows")
            for level in sorted(key for key in found[0] if key.startswith("padding_level")):
                shares = [100 * row[level] for row in found]
                ax.plot(values, shares, "o-", label=level.removeprefix("padding_"))
            ax.legend()
        else:
            ax.set_ylabel("step, ms")
            ax.plot(values, [row["step_ms"] for row in found], "o-", color="C0")
            other = ax.twinx()
            other.set_ylabel("program, MB", color="C1")
            other.plot(values, [row["program_mb"] for row in found], "s--", color="C1")
            other.set_ylim(bottom=0)
        ax.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
