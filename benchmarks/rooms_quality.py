"""Pseudo-label quality on Rooms: MPRM and PCAM, subcloud and scene tags, several seeds, the CRF.

Runs `experiments/train.py --stage cls` once per combination, each in its own work directory, then
`experiments/refine_pseudo_labels.py` on what it exported, and writes the mean and deviation of
every measure. A stopped measurement continues where it was.

    python benchmarks/rooms_quality.py --workdir runs/rooms_quality
"""

import argparse
import itertools
import json
import pathlib
import statistics
import subprocess
import sys

from machine import describe_machine

SCRIPTS = pathlib.Path(__file__).parents[1] / "experiments"
RESULT = pathlib.Path(__file__).parent / "results" / "rooms_quality.json"
NETWORKS = {"MPRM": [], "PCAM": ["model.paths=plain"]}
TAGS = ("subcloud", "scene")
REFINED = "calibrated, after the CRF"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="rooms:quick", help="as in train.py")
    parser.add_argument("--preset", default="quick", help="as in train.py")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/rooms_quality"))
    parser.add_argument("--output", type=pathlib.Path, default=RESULT)
    parser.add_argument("--set", nargs="+", action="extend", default=[], help="as in train.py")
    args = parser.parse_args()
    runs = []
    for seed, tags, network in itertools.product(range(args.seeds), TAGS, NETWORKS):
        settings = [f"seed={seed}", f"data.labels={tags}", *NETWORKS[network], *args.set]
        workdir = args.workdir / f"{network}-{tags}-{seed}"
        runs.append({"network": network, "tags": tags, "seed": seed} | run(args, workdir, settings))
        report = {
            "command": "python benchmarks/rooms_quality.py",
            "data": args.data,
            "preset": args.preset,
            "settings": args.set,
            "machine": describe_machine(),
            "summary": summarize(runs),
            "runs": runs,
        }
        args.output.write_text(json.dumps(report, indent=1), encoding="utf-8")
        print(table(report["summary"]), flush=True)


def run(args: argparse.Namespace, workdir: pathlib.Path, settings: list[str]) -> dict:
    """The results of one training run, made if they are not there yet."""
    results = workdir / "results.json"
    if not results.exists():
        flags = ["--data", args.data, "--preset", args.preset, "--workdir", str(workdir)]
        command = [
            sys.executable,
            str(SCRIPTS / "train.py"),
            "--stage",
            "cls",
            *flags,
            "--set",
            *settings,
        ]
        subprocess.run(command, check=True)
    found = json.loads(results.read_text(encoding="utf-8"))
    measures = {REFINED: refine(workdir), **found["measures"]}
    return {"seconds": found["seconds"], "measures": measures}


def refine(workdir: pathlib.Path) -> dict:
    """The measure of the labels of a run after the dense CRF with its fixed settings."""
    result = workdir / "refined.json"
    if not result.exists():
        script, export = SCRIPTS / "refine_pseudo_labels.py", workdir / "pseudo_labels"
        command = [sys.executable, str(script), "--export", str(export), "--json"]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        result.write_text(found, encoding="utf-8")
    return json.loads(result.read_text(encoding="utf-8"))["after"]


def summarize(runs: list[dict]) -> dict:
    """Mean and deviation over seeds of mIoU and accuracy, by network, tags and way of choosing."""
    summary: dict = {}
    for network, tags in itertools.product(NETWORKS, TAGS):
        same = [r for r in runs if (r["network"], r["tags"]) == (network, tags)]
        if not same:
            continue
        ways = [way for way, values in same[0]["measures"].items() if isinstance(values, dict)]
        summary[f"{network}, {tags} tags"] = {
            "seconds": spread([r["seconds"] for r in same]),
            **{
                way: {
                    key: spread([r["measures"][way][key] for r in same])
                    for key in ("miou", "accuracy")
                }
                for way in ways
            },
        }
    return summary


def spread(values: list[float]) -> dict[str, float]:
    """Mean and sample deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 2), "sd": round(deviation, 2), "n": len(values)}


def table(summary: dict) -> str:
    """Markdown: mIoU by row and way of choosing labels."""
    ways = [key for key in next(iter(summary.values())) if key != "seconds"]
    lines = [f"| | {' | '.join(ways)} | minutes |", "|---" * (len(ways) + 2) + "|"]
    for name, row in summary.items():
        cells = [f"{row[way]['miou']['mean']:.1f} ± {row[way]['miou']['sd']:.1f}" for way in ways]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['seconds']['mean'] / 60:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
