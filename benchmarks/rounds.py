"""Rounds of tagging and training with a simulated person: does going on from the last weights pay?

Round 1 trains both networks of Rooms. Then the points of each room that MPRM doubts most are asked,
and answered from the truth. Round 2 trains each network with as many steps as round 1: once from
its weights of round 1, once anew. Everything goes through the commands that a person
uses; what has its results already is not repeated:

    python benchmarks/rounds.py --clicks 20 --output benchmarks/results/rounds.json
"""

import argparse
import json
import os
import pathlib
from collections.abc import Iterator

from processes import mprm, print_row, rounded, write_report

from mprm_jax.commands.reproduction.person import asked_points, click
from mprm_jax.store.exports import Export

STARTS = ("anew", "weights of round 1")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="rooms:quick")
    parser.add_argument("--clicks", type=int, default=20, help="of a room, asked at once")
    parser.add_argument("--set", nargs="*", default=[], help="settings of all trainings")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/rounds"))
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    output = args.output and args.output.absolute()
    args.workdir.mkdir(parents=True, exist_ok=True)
    os.chdir(args.workdir)
    rows = []
    for row in rounds(args):
        rows.append(print_row(rounded(row)))
        write_report(output, rows)


def rounds(args: argparse.Namespace) -> Iterator[dict]:
    """Yields a row for each network that was trained."""
    clicks = pathlib.Path("rooms") / args.data.partition(":")[2] / "clicks.csv"
    clicks.unlink(missing_ok=True)
    mprm("prepare", "--data", args.data)  # clicks of an earlier run are gone
    yield {"round": 1, "stage": "cls", "from": STARTS[0]} | cls(args, "cls1")
    labels = refined("cls1", "labels1")
    yield {"round": 1, "stage": "seg", "from": STARTS[0]} | labels | seg(args, "seg1", "labels1")
    export = Export("cls1/pseudo_labels")
    store = export.open_store()
    click(clicks, store, asked_points(export, store, args.clicks))
    mprm("prepare", "--data", args.data)
    labels = refined("cls1", "labels2")
    for name, start in zip(("anew", "on"), STARTS, strict=True):
        how = ["--start-from", "anew" if name == "anew" else "seg1"]
        found = seg(args, f"seg2-{name}", "labels2", *how)
        yield {"round": 2, "stage": "seg", "from": start} | labels | found
    for name, start in zip(("anew", "on"), STARTS, strict=True):
        how = ["--start-from", "anew" if name == "anew" else "cls1"]
        found = cls(args, f"cls2-{name}", *how)
        yield {"round": 2, "stage": "cls", "from": start} | found


def cls(args: argparse.Namespace, name: str, *flags: str) -> dict:
    """Trains MPRM; mIoU of its labels in per cent."""
    found = trained(name, "--stage", "cls", *flags, args=args)
    return found | {"calibrated": found.pop("measures")["calibrated"]["miou"]}


def seg(args: argparse.Namespace, name: str, labels: str, *flags: str) -> dict:
    """Trains a segmentation network; its mIoU on the validation rooms, without tags."""
    found = trained(name, "--stage", "seg", "--pseudo-labels", labels, *flags, args=args)
    return found | {"val": found.pop("measures")["val"]["miou"]}


def trained(name: str, *flags: str, args: argparse.Namespace) -> dict:
    results = pathlib.Path(name) / "results.json"
    if not results.exists():
        settings = ["--set", *args.set] if args.set else []
        mprm("train", "--data", args.data, "--workdir", name, *flags, *settings)
    found = json.loads(results.read_text(encoding="utf-8"))
    lines = (pathlib.Path(name) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = max(json.loads(line)["step"] for line in lines)
    return {"steps": steps, "seconds": found["seconds"], "measures": found["measures"]}


def refined(run: str, output: str) -> dict:
    """Smooths labels with the evidence as it is now; their mIoU in per cent."""
    found = mprm("refine", "--export", f"{run}/pseudo_labels", "--output", output, "--json")
    return {"refined": json.loads(found)["after"]["miou"]}


if __name__ == "__main__":
    main()
