"""Segmentation networks of several recipes, each learning labels and, to compare, the truth.

    python benchmarks/recipes.py --pseudo-labels runs/.../labels --recipes "" seg.lovasz=0.5 \\
        "augment.mix=0.3 augment.grid=moved" --output recipes.json

A recipe is a list of settings, as of `mprm train --set`; "" is the preset. What was trained before
is not trained again.
"""

import argparse
import itertools
import json
import pathlib
import re

from processes import mprm, print_row, rounded, write_report

TRUTH = "truth"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="rooms:quick")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--pseudo-labels", required=True, help="folder of labels")
    parser.add_argument("--recipes", nargs="+", default=[""], metavar="SETTINGS")
    parser.add_argument("--no-truth", action="store_true", help="learn the pseudo-labels only")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--devices", help="as of mprm train")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/recipes"))
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    targets = {"labels": args.pseudo_labels} | ({} if args.no_truth else {TRUTH: TRUTH})
    rows = []
    for recipe, seed, target in itertools.product(args.recipes, range(args.seeds), targets):
        settings = (f"seed={seed}", *recipe.split())
        folder = re.sub(r"[^\w.=-]+", "_", f"{target}-{' '.join(settings)}")
        results = args.workdir / folder / "results.json"
        if not results.exists():
            flags = ("--stage", "seg", "--data", args.data, "--preset", args.preset)
            flags += ("--pseudo-labels", targets[target], "--workdir", str(results.parent))
            flags += ("--devices", args.devices) if args.devices else ()
            mprm("train", *flags, "--set", *settings)
        found = json.loads(results.read_text(encoding="utf-8"))
        measure = found["measures"]["val"]
        row = {"recipe": recipe, "seed": seed, "target": target}
        row |= {name: measure[name] for name in ("miou_occurring", "accuracy", "num_occurring")}
        cost = {"steps": found["step"], "minutes": found["seconds"] / 60}
        rows.append(print_row(rounded(row | cost)))
        write_report(args.output, rows)


if __name__ == "__main__":
    main()
