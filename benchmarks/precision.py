"""Quality of pseudo-labels where networks compute in float32 and in bfloat16, over seeds.

Trains a classifier for each, one after another. A run whose folder has its results is not repeated:

    python benchmarks/precision.py --output benchmarks/results/precision.json
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from processes import print_row, write_report

TRAIN = pathlib.Path(__file__).parents[1] / "experiments" / "train.py"
MEASURES = ("miou", "accuracy", "mean_accuracy")  # percent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="rooms:quick")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each type (default: 3)")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/precision"))
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    rows = []
    for dtype in args.dtypes:
        runs = [pseudo_label_quality(args, dtype, seed) for seed in range(args.seeds)]
        rows.append(print_row({"data": args.data, "preset": args.preset, **summary(dtype, runs)}))
        write_report(args.output, rows)


def pseudo_label_quality(args: argparse.Namespace, dtype: str, seed: int) -> dict:
    """Calibrated pseudo-labels of the training scenes against their labels, in percent."""
    workdir = args.workdir / f"{dtype}-{seed}"
    results = workdir / "results.json"
    if not results.exists():
        command = [sys.executable, str(TRAIN), "--stage", "cls", "--data", args.data]
        command += ["--preset", args.preset, "--workdir", str(workdir)]
        command += ["--set", f"seed={seed}", f"model.dtype={dtype}"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    found = json.loads(results.read_text(encoding="utf-8"))["measures"]["calibrated"]
    return {name: found[name] for name in MEASURES}


def summary(dtype: str, runs: list[dict]) -> dict:
    """Mean and sample standard deviation of each measure, and the runs."""
    row = {"dtype": dtype}
    for name in MEASURES:
        values = [run[name] for run in runs]
        row[name] = round(statistics.mean(values), 2)
        row[f"{name}_std"] = round(statistics.stdev(values), 2) if len(values) > 1 else None
    return row | {"runs": runs}


if __name__ == "__main__":
    main()
