"""The paper's tables, put together from the results of all seeds that are there."""

import json
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mprm_jax.commands.jobs import durations
from mprm_jax.commands.reproduction.jobs import (
    CALIBRATIONS,
    FUSIONS,
    NETWORKS,
    RULES,
    TAGS,
    TARGETS,
)
from mprm_jax.commands.reproduction.ladder import COST, LADDER, LONG, LONG_TRUTH, LONGER, TRUTH
from mprm_jax.commands.reproduction.render import ABSENT, Block, Heading, Table, Text
from mprm_jax.errors import UserError, explain_damage
from mprm_jax.reading import parse_json, read_json

PAPER: dict[str, Any] = json.loads(
    pathlib.Path(__file__).with_name("paper.json").read_text(encoding="utf-8")
)
_ONE_NETWORK = "One MPRM network a seed, with tags, one vote a ball, training scenes or as named."
WITH_TAGS, WITHOUT_TAGS = "voxels with tags", "voxels without tags"


class Results(NamedTuple):
    """The results in a work directory."""

    root: pathlib.Path
    seeds: Sequence[int]

    def load(self, file: str) -> Any | None:
        """The JSON of a job; None if it is not done."""
        path = self.root / file
        try:
            return read_json(path) if path.exists() else None
        except ValueError as error:
            raise UserError(
                f"{path}: damaged ({error}); delete it to do this job again."
            ) from error

    def numbers(self, file: str, pick: Callable[[Any], float | None]) -> list[float]:
        """One number of every seed that is done.

        Args:
          file: of a job, with `{seed}` in its name.
          pick: the number in its JSON; None if it is not there.
        """
        found = [self.load(file.format(seed=seed)) for seed in self.seeds]
        numbers = [pick(values) for values in found if values is not None]
        return [number for number in numbers if number is not None]


def coverage(*counts: Sequence[float], of: int) -> str:
    """Says over how many of the classes means were taken, e.g. "16 of 20"; empty if none was.

    Args:
      counts: classes that each mean covers, of every seed.
    """
    found = {int(number) for numbers in counts for number in numbers}
    if not found:
        return ""
    few, many = min(found), max(found)
    return f"{few} of {of}" if few == many else f"{few} to {many} of {of}"


def over_seeds(numbers: Sequence[float]) -> str:
    """Mean and sample deviation; empty if there is no number."""
    if not numbers:
        return ""
    if len(numbers) == 1:
        return f"{numbers[0]:.1f} (1 seed)"
    return f"{statistics.mean(numbers):.1f} ± {statistics.stdev(numbers):.1f}"


def mean(numbers: Sequence[float]) -> float | None:
    """The mean; None if there is no number."""
    return statistics.mean(numbers) if numbers else None


def tag_table(results: Results, with_paper: bool) -> list[Block]:
    """Table 1: how often each class is tagged."""
    found = results.load("tags.json") or {}
    columns = ["class", "scenes %", "subclouds %"]
    paper = PAPER["class_frequency"]
    columns += ["paper, scenes %", "paper, subclouds %"] if with_paper else []
    rows = []
    for number, name in enumerate(found.get("scene", {})):
        row = [name, f"{found['scene'][name]:.1f}", f"{found['subcloud'][name]:.1f}"]
        if with_paper:
            row += [str(paper["scene"][number]), str(paper["subcloud"][number])]
        rows.append(row)
    counts = f"{found.get('scenes', '')} scenes, {found.get('subclouds', '')} subclouds"
    return [
        Heading("Table 1: class tags of the training scenes"),
        Text(counts),
        Table(columns, rows),
    ]


def label_table(results: Results, with_paper: bool) -> list[Block]:
    """Table 2: pseudo-labels of the training scenes."""
    ways = ("calibrated", "raw", "random allowed class", "most frequent allowed class")
    columns = ["mIoU of pseudo-labels", "calibrated", "calibrated + CRF", "raw (paper's argmax)"]
    columns += [*ways[2:], *(["paper"] if with_paper else [])]
    rows = []
    for tags in TAGS:
        for network in NETWORKS:
            name = f"{network}-{tags}-{{seed}}"
            cells = {
                way: over_seeds(results.numbers(f"cls/{name}/results.json", _measure_of(way)))
                for way in ways
            }
            refined = over_seeds(results.numbers(f"crf/{name}.json", _refined))
            row = [f"{network}, {tags} tags", cells["calibrated"], refined, cells["raw"]]
            row += [cells[way] for way in ways[2:]]
            rows.append(row + ([_paper_label(network, tags)] if with_paper else []))
    note = "All columns are with tags: a point may only take a class that is tagged around it."
    files = [f"cls/{network}-{tags}-{{seed}}/results.json" for tags in TAGS for network in NETWORKS]
    picks = [_measure_of(way, "num_classes") for way in ways]
    note += _coverage_note(results, "Means", files, picks)
    return [Heading("Table 2: pseudo-labels"), Text(note), Table(columns, rows)]


def class_table(results: Results) -> list[Block]:
    """The classes of Table 2, subcloud tags."""
    files = {
        "PCAM": ("cls/PCAM-subcloud-{seed}/results.json", lambda x: x["measures"]["calibrated"]),
        "MPRM": ("cls/MPRM-subcloud-{seed}/results.json", lambda x: x["measures"]["calibrated"]),
        "MPRM + CRF": ("crf/MPRM-subcloud-{seed}.json", lambda x: x["after"]),
    }
    rows = []
    for number, name in enumerate(_classes(results)):
        row = [name]
        for file, pick in files.values():
            # Of classes that do not occur there is no IoU, once it was looked for.
            done = results.numbers(file, lambda x, pick=pick: float(bool(pick(x))))
            ious = results.numbers(file, lambda x, pick=pick, n=number: pick(x)["iou"][n])
            row.append(over_seeds(ious) if ious or not any(done) else ABSENT)
        rows.append(row)
    return [
        Heading("Table 2, by class (subcloud tags, calibrated)", 3),
        Table(["IoU", *files], rows),
    ]


def path_table(results: Results, with_paper: bool) -> list[Block]:
    """Table 3: which paths are merged, and how."""
    columns = [
        "paths merged",
        "train",
        "val",
        *(["paper, train", "paper, val"] if with_paper else []),
    ]
    rows = []
    for fusion in FUSIONS:
        name = fusion.replace(", ", "-")
        cells = [
            over_seeds(results.numbers(f"paths/{name}-{split}-{{seed}}.json", _exported))
            for split in ("train", "val")
        ]
        row = [fusion, *cells]
        rows.append(row + ([str(x) for x in PAPER["paths"][fusion]] if with_paper else []))
    note = f"{_ONE_NETWORK} Calibrated; the maximum over paths unless it says sum."
    return [Heading("Table 3: paths and fusion"), Text(note), Table(columns, rows)]


def rule_table(results: Results) -> list[Block]:
    """Whose tags decide which classes a point may take."""
    names = {
        "intersection": "those of all its balls",
        "ball": "those of any of its balls",
        "scene": "those of its scene",
    }
    rows = []
    for rule in RULES:
        files = [f"rules/{rule}-{calibration}-{{seed}}.json" for calibration in CALIBRATIONS]
        rows.append(
            [names[rule], *(over_seeds(results.numbers(file, _exported)) for file in files)]
        )
    columns = ["classes a point may take", "calibrated", "raw (paper's argmax)"]
    return [Heading("Rules for tags", 3), Text(_ONE_NETWORK), Table(columns, rows)]


def validation_table(results: Results, with_paper: bool) -> list[Block]:
    """Table 4: the validation split, before and after retraining."""
    lines = {
        "PCAM": ("val/PCAM-{seed}.json", _exported, None),
        "MPRM": ("val/MPRM-{seed}.json", _exported, None),
        "MPRM, CRF": ("val/MPRM-CRF-{seed}.json", _refined, None),
        "retrained on MPRM": ("seg/pseudo-{seed}.json", _column(WITH_TAGS), WITHOUT_TAGS),
        "retrained on MPRM, CRF": ("seg/crf-{seed}.json", _column(WITH_TAGS), WITHOUT_TAGS),
        "fully supervised": ("seg/truth-{seed}.json", _column(WITH_TAGS), WITHOUT_TAGS),
    }
    rows = []
    for name, (file, pick, without) in lines.items():
        bare = over_seeds(results.numbers(file, _column(without))) if without else "needs tags"
        row = [name, over_seeds(results.numbers(file, pick)), bare]
        rows.append(row + ([str(PAPER["validation"].get(name, ""))] if with_paper else []))
    columns = ["mIoU on val", "with tags", "without tags", *(["paper"] if with_paper else [])]
    note = "A class counts if it occurs in the truth or among the labels."
    files = [f"seg/{target}-{{seed}}.json" for target in TARGETS]
    for column in (WITH_TAGS, WITHOUT_TAGS):
        means = f"Means of networks on {column}"
        note += _coverage_note(results, means, files, [_column(column, "num_classes")])
    return [Heading("Table 4: validation split"), Text(note), Table(columns, rows)]


def supervision_table(results: Results, with_paper: bool) -> list[Block]:
    """Table 5: the share of full supervision that tags alone reach."""
    tags = results.numbers("seg/crf-{seed}.json", _column(WITHOUT_TAGS))
    full = results.numbers("seg/truth-{seed}.json", _column(WITHOUT_TAGS))
    ours, theirs = mean(tags), mean(full)
    share = "" if ours is None or theirs is None else f"{100 * ours / theirs:.0f} %"
    rows = [
        ["retrained on MPRM, CRF", over_seeds(tags)],
        ["fully supervised", over_seeds(full)],
        ["share reached by tags", share],
    ]
    if with_paper:
        paper = PAPER["test"]
        cells = [str(paper[row[0]]) for row in rows[:2]]
        cells.append(f"{100 * paper[rows[0][0]] / paper[rows[1][0]]:.0f} %")
        rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
    columns = ["mIoU without tags, val", "ours", *(["paper, hidden test"] if with_paper else [])]
    return [Heading("Table 5: against full supervision"), Table(columns, rows)]


def ladder_table(results: Results) -> list[Block]:
    """What each ingredient adds to labels and networks; a rung has all of those above it."""
    full = results.numbers(TRUTH.network, _column(WITHOUT_TAGS, "miou_occurring"))
    rows = []
    for rung in LADDER:
        labels, accuracy, near, far = (
            over_seeds(results.numbers(rung.labels, _labeled(value))) if rung.labels else ""
            for value in ("miou_occurring", "accuracy", "error_near_borders", "error_elsewhere")
        )
        bare = results.numbers(rung.network, _column(WITHOUT_TAGS, "miou_occurring"))
        with_tags = results.numbers(rung.network, _column(WITH_TAGS, "miou_occurring"))
        network = [over_seeds(bare), over_seeds(with_tags), _share(bare, full)]
        rows.append([rung.meaning, labels, accuracy, near, far, *network])
    columns = ["ingredient", "labels: mIoU", "accuracy", "wrong near borders", "wrong elsewhere"]
    columns += ["network: mIoU without tags", "with tags", "share of point labels"]
    note = (
        "Labels are those of the training scenes, networks are measured on val; means over the "
        "classes that occur there. All networks have the same recipe and as many steps."
    )
    return [
        Heading("The ladder: beyond the paper"),
        Text(note),
        Table(columns, rows),
        *_long_table(results),
        *_ladder_classes(results),
        *_ladder_cost(results),
    ]


def _long_table(results: Results) -> list[Block]:
    """The share after more steps."""
    full = results.numbers(LONG_TRUTH, _column(WITHOUT_TAGS, "miou_occurring"))
    names = {rung.name: rung.meaning for rung in LADDER}
    rows = []
    for name, file in {**LONG, "truth": LONG_TRUTH}.items():
        found = results.numbers(file, _column(WITHOUT_TAGS, "miou_occurring"))
        rows.append([names[name], over_seeds(found), _share(found, full)])
    columns = ["labels", "network: mIoU without tags", "share of point labels"]
    return [Heading(f"{LONGER} times the steps", 3), Table(columns, rows)]


def _ladder_classes(results: Results) -> list[Block]:
    """IoU of networks without tags, by class."""
    rows = []
    for number, name in enumerate(_classes(results)):
        cells = (
            over_seeds(results.numbers(rung.network, _class_iou(number))) for rung in LADDER[3:]
        )
        rows.append([name, *cells])
    columns = ["IoU on val, without tags", *(rung.name for rung in LADDER[3:])]
    return [Heading("Networks of the ladder, by class", 3), Table(columns, rows)]


def _ladder_cost(results: Results) -> list[Block]:
    """Minutes of the commands behind each ingredient."""
    seconds = durations(results.root)
    rows = []
    for meaning, files in COST.items():
        found = [
            sum(seconds[file] for file in of_seed) / 60
            for seed in results.seeds
            if (of_seed := {file.format(seed=seed) for file in files}) <= seconds.keys()
        ]
        rows.append([meaning, over_seeds(found)])
    columns = ["what", "minutes"]
    return [Heading("Minutes of each ingredient", 3), Table(columns, rows)]


def _share(found: Sequence[float], full: Sequence[float]) -> str:
    """Of what point labels reach; of means over seeds."""
    ours, theirs = mean(found), mean(full)
    return "" if ours is None or theirs is None else f"{100 * ours / theirs:.0f} %"


def cost_table(results: Results) -> list[Block]:
    """Time and speed of the trainings."""
    runs = [f"cls/{network}-{tags}-{{seed}}" for tags in TAGS for network in NETWORKS]
    runs += [f"seg/{target}-{{seed}}" for target in TARGETS]
    rows = []
    for run in runs:
        seconds = results.numbers(f"{run}/results.json", lambda found: found["seconds"] / 60)
        speeds = [
            speed
            for seed in results.seeds
            if (speed := _speed(results.root / run.format(seed=seed))) is not None
        ]
        found = (results.load(f"{run}/results.json".format(seed=seed)) for seed in results.seeds)
        devices = {values["devices"] for values in found if values}
        name = run.removesuffix("-{seed}")
        rows.append(
            [
                name,
                over_seeds(seconds),
                over_seeds(speeds),
                ", ".join(sorted(devices)),
            ]
        )
    note = "Minutes of the whole command; speed of its training steps."
    columns = ["training", "minutes", "thousand points/s", "devices"]
    return [Heading("Cost"), Text(note), Table(columns, rows)]


def _speed(workdir: pathlib.Path) -> float | None:
    """Median speed of a run in thousand points per second."""
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return None
    with explain_damage(path, "delete it, the report then lacks this speed"):
        lines = [parse_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = [x["speed/points_per_second"] for x in lines if "speed/points_per_second" in x]
    return statistics.median(found) / 1000 if found else None


def _coverage_note(
    results: Results, means: str, files: Sequence[str], picks: Sequence[Callable]
) -> str:
    """A sentence on the classes that means cover; empty if none was measured."""
    counts = [results.numbers(file, pick) for file in files for pick in picks]
    covered = coverage(*counts, of=len(_classes(results)))
    return f" {means} are over {covered} classes." if covered else ""


def _classes(results: Results) -> list[str]:
    """Of the data set, from the first network that is trained."""
    for file in ("cls/PCAM-scene-{seed}/results.json", "cls/MPRM-subcloud-{seed}/results.json"):
        for seed in results.seeds:
            if found := results.load(file.format(seed=seed)):
                return found["classes"]
    return []


def _measure_of(way: str, value: str = "miou"):
    return lambda found: found["measures"].get(way, {}).get(value)


def _refined(found: dict) -> float | None:
    return (found["after"] or {}).get("miou")


def _exported(found: dict) -> float | None:
    return (found["measure"] or {}).get("miou")


def _labeled(value: str):
    """Of what measures labels: an export, or the CRF after it."""
    return lambda found: ((found["after"] if "after" in found else found["measure"]) or {}).get(
        value
    )


def _class_iou(number: int):
    def pick(found: dict) -> float | None:
        ious = found["columns"].get(WITHOUT_TAGS, {}).get("iou")
        return ious and ious[number]

    return pick


def _column(name: str, value: str = "miou"):
    return lambda found: found["columns"].get(name, {}).get(value)


def _paper_label(network: str, tags: str) -> str:
    plain = PAPER["pseudo_labels"][f"{network}, {tags}"]
    refined = PAPER["pseudo_labels"].get(f"{network}, {tags}, CRF")
    return f"{plain}" if refined is None else f"{plain}, CRF {refined}"
