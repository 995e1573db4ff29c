"""The same run on different numbers of devices: steps, losses, pseudo-labels and time of a step.

On a CPU the devices are virtual. Trains a classifier for each number, one after another. A run
whose folder has its results is not repeated:

    python benchmarks/devices.py --data rooms:tiny --devices 1 2 4 8 --set optim.epochs=40 \
        pyramid.buckets_per_step=8 --output benchmarks/results/devices_tiny.json
    python benchmarks/devices.py --data rooms:quick --devices 1 2 --output devices_quick.json
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from processes import print_row, rounded, write_report

TRAIN = pathlib.Path(__file__).parents[1] / "experiments" / "train.py"
WINDOWS = (10, 50, 200, 1000)  # steps from the start, over which losses are compared


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="rooms:tiny")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--set", nargs="*", default=[], help="settings of all runs")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/devices"))
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    rows, first = [], None
    for count in args.devices:
        run = train(args, count)
        first = first or run
        rows.append(print_row(rounded(compare(count, run, first))))
        write_report(args.output, rows)


def train(args: argparse.Namespace, num_devices: int) -> tuple[dict, list[dict]]:
    """Results of a run, and what it logged of every step."""
    workdir = args.workdir / f"{args.data.replace(':', '-')}-{num_devices}"
    results, metrics = workdir / "results.json", workdir / "metrics.jsonl"
    if not results.exists():
        command = [sys.executable, str(TRAIN), "--stage", "cls", "--data", args.data]
        command += ["--devices", str(num_devices), "--workdir", str(workdir)]
        command += ["--set", "log.every_steps=1", *args.set]
        subprocess.run(command, check=True, stdout=sys.stderr)
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    return json.loads(results.read_text(encoding="utf-8")), steps


def compare(num_devices: int, run: tuple[dict, list[dict]], first: tuple[dict, list[dict]]) -> dict:
    """A row: what of a run differs from the first one, and how long its steps took."""
    (results, steps), (other, expected) = run, first
    away = [abs(a["loss"] - b["loss"]) / b["loss"] for a, b in zip(steps, expected, strict=True)]
    rates = [a["learning_rate"] == b["learning_rate"] for a, b in zip(steps, expected, strict=True)]
    quality = {f"{name}_miou": results["measures"][name]["miou"] for name in ("calibrated", "raw")}
    return {
        "devices_given": num_devices,
        "devices": results["devices"],
        "steps": len(steps),
        "rates_equal": all(rates),
        **{f"loss_difference_first_{n}": max(away[:n]) for n in WINDOWS if n <= len(away)},
        **quality,
        "calibrated_miou_difference": quality["calibrated_miou"]
        - other["measures"]["calibrated"]["miou"],
        # Without the first steps, which wait for input and for what is compiled once.
        "ms_per_step": 1000 * statistics.median(x["speed/seconds_per_step"] for x in steps[10:]),
        "last_loss": steps[-1]["loss"],
    }


if __name__ == "__main__":
    main()
