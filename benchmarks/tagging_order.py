"""What minutes of a person buy on Rooms: tags of balls, of scenes and clicks, in several orders.

A simulated person answers from the truth, on a clock: 10 s a ball, 15 s for the tags of a scene,
3.5 s a click. For each setting and seed the pseudo-labels are measured on the training rooms, and a
segmentation network that learned them on the validation rooms, without tags. Everything goes
through the commands that a person uses; what has its results already is not repeated, and after an
interruption the same command goes on:

    python benchmarks/tagging_order.py --seeds 3 --output benchmarks/results/tagging_order.json

Labels alone take one network of stage cls a seed, which may be there, and CRFs:

    python benchmarks/tagging_order.py --no-networks --seeds 1 --cls runs/cls-rooms-quick-quick \\
        --only tags tags-20-chosen tags-20-random --output labels.json

The settings (`half-*` and `scene*` train networks of stage cls of their own):

    truth               all point labels: what is to be reached
    tags                all balls of the grid
    tags-again          the same, labeled once more by the network of `tags`
    half-ranked         half of the balls, as `mprm tag --next helpful` asks for them
    half-random         half of the balls, at random
    tags-N-chosen       all balls and N clicks a room, asked at once by the network of the tags
    tags-N-random       the same with random clicks
    tags-N-rounds       5 of them first; the network of that round asks the others, and labels
    clicks-50-random    clicks alone; the network learns what lies around them and nothing else
    scene               the tags of each room
    scene-N-chosen      the same and N clicks, asked by its network of stage cls

Every setting has rooms of its own below the work directory, linked to the same scans, with its own
`tags.csv` and `clicks.csv`, and a prepared store: 110 MB each for rooms:quick. With --no-networks
the settings that need a segmentation network (`truth`, `tags-again`, rounds, `clicks-*`) are left
out. With --cls the settings of the whole grid share the runs that are named, one for each seed.
"""

import argparse
import json
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.figure
import numpy as np
from processes import mprm, print_row, rounded, write_report

from mprm_jax.commands.reproduction.person import (
    Effort,
    asked_points,
    click,
    count_grid,
    half_at_random,
    half_ranked,
    random_points,
    tag_balls,
    tag_scenes,
)
from mprm_jax.errors import UserError
from mprm_jax.evidence.clicks import read_clicks
from mprm_jax.evidence.tags import read_tags
from mprm_jax.scans.scan_files import CLICKS_FILE, TAGS_FILE
from mprm_jax.store.exports import MANIFEST_FILE as EXPORT_MANIFEST
from mprm_jax.store.exports import Export
from mprm_jax.store.manifest import MANIFEST_FILE
from mprm_jax.store.scenes import SceneStore
from mprm_jax.types import Array
from mprm_jax.writing import whole_file, write_whole

# What the person tags.
TRUTH, GRID, SCENES, NOTHING = "truth", "grid", "scenes", "nothing"
HALF_RANKED, HALF_RANDOM = "half-ranked", "half-random"
CHOSEN, RANDOM = "chosen", "random"  # clicks
MEASURES = ("labels", "network")
TITLES = ("pseudo-labels, training rooms", "network, validation rooms, without tags")
AIM = 0.9  # of what the network reaches with all point labels


class Setting(NamedTuple):
    """What the person does in a room, and which network labels it."""

    name: str
    tags: str
    clicks: int = 0
    way: str = CHOSEN
    after: str | None = None  # setting whose network asks what is left, and labels


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("truth", TRUTH),
        Setting("tags", GRID),
        Setting("tags-again", GRID, after="tags"),
        Setting("half-ranked", HALF_RANKED),
        Setting("half-random", HALF_RANDOM),
        *(Setting(f"tags-{n}-chosen", GRID, n) for n in (5, 20, 50)),
        *(Setting(f"tags-{n}-random", GRID, n, RANDOM) for n in (5, 20, 50)),
        *(Setting(f"tags-{n}-rounds", GRID, n, after="tags-5-chosen") for n in (20, 50)),
        Setting("clicks-50-random", NOTHING, 50, RANDOM),
        Setting("scene", SCENES),
        *(Setting(f"scene-{n}-chosen", SCENES, n) for n in (20, 50)),
    )
}
# Settings of the same tags without clicks, whose network of stage cls the others share.
BASES = {GRID: "tags", SCENES: "scene", HALF_RANKED: "half-ranked", HALF_RANDOM: "half-random"}
# Lines and points of the plot, with the settings on each.
CURVES = {
    "tags + clicks in rounds": ("tags-5-chosen", "tags-20-rounds", "tags-50-rounds"),
    "tags + chosen clicks": ("tags", "tags-5-chosen", "tags-20-chosen", "tags-50-chosen"),
    "tags + random clicks": ("tags", "tags-5-random", "tags-20-random", "tags-50-random"),
    "tags of all balls": ("tags",),
    "the same, second round": ("tags-again",),
    "half of the balls, ranked": ("half-ranked",),
    "half of the balls, random": ("half-random",),
    "clicks alone": ("clicks-50-random",),
    "tags of scenes + chosen clicks": ("scene", "scene-20-chosen", "scene-50-chosen"),
}


def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    if args.data.partition(":")[0] != "rooms":
        parser.error(f"--data {args.data}: the person answers from the truth of rooms")
    if args.cls and len(args.cls) != args.seeds:
        parser.error(f"--cls: {len(args.cls)} runs for {args.seeds} seeds; give one for each")
    if args.plot is None and args.output is not None:
        args.plot = args.output.with_suffix(".png")
    args.workdir = args.workdir.absolute()  # commands run in folders below it
    args.cls = [str(pathlib.Path(run).absolute()) for run in args.cls]
    claim(args)
    rows: list[dict] = []
    for trial in trials(args):
        rows.append(print_row(rounded(measure(trial))))
        write_report(args.output, summarize(rows))
    if args.plot is not None:
        plot(args.plot, summarize(rows))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="rooms:quick")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, default=3, help="of each setting (default: 3)")
    parser.add_argument("--set", nargs="*", default=[], help="settings of all trainings of seg")
    parser.add_argument("--set-cls", nargs="*", default=[], help="settings of those of cls")
    parser.add_argument("--cls", nargs="*", default=[], metavar="RUN", help="trained on the tags")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, metavar="SETTING", default=SETTINGS)
    parser.add_argument("--no-networks", action="store_true", help="measure labels alone")
    parser.add_argument("--workdir", type=pathlib.Path, default="runs/tagging_order")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    parser.add_argument("--plot", type=pathlib.Path, help="PNG (default: beside the report)")
    return parser


def claim(args: argparse.Namespace) -> None:
    """Notes what the results of a work directory are of; seeds may be added.

    Raises:
      ValueError: they are of something else.
    """
    path = args.workdir / "settings.json"
    asked = {name: getattr(args, name) for name in ("data", "preset", "set", "set_cls")}
    asked["cls"] = args.cls or [None] * args.seeds
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        both = min(len(asked["cls"]), len(found["cls"]))
        changed = [name for name in asked if name != "cls" and asked[name] != found[name]]
        if changed or asked["cls"][:both] != found["cls"][:both]:
            raise UserError(
                f"{path}: the results there are of other {' and '.join(changed or ['cls'])}; "
                "choose another --workdir."
            )
        asked["cls"] = max(asked["cls"], found["cls"], key=len)
    args.workdir.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asked, indent=1))


class Trial(NamedTuple):
    """A setting with a seed."""

    args: argparse.Namespace
    setting: Setting
    seed: int

    @property
    def results(self) -> pathlib.Path:
        """Folder of what was made of the evidence."""
        return self.args.workdir / f"seed{self.seed}" / self.setting.name

    @property
    def place(self) -> pathlib.Path:
        """Folder with rooms that have the evidence; commands run in it."""
        is_plain = self.setting.tags in (GRID, TRUTH) and not self.setting.clicks
        return self.args.workdir / "grid" if is_plain else self.results

    @property
    def rooms(self) -> pathlib.Path:
        """Where the person's files lie."""
        return self.place / "rooms" / (self.args.data.partition(":")[2] or "quick")

    @property
    def store(self) -> pathlib.Path:
        return self.place / "prepared"

    def like(self, name: str) -> "Trial":
        """Another setting with the same seed."""
        return self._replace(setting=SETTINGS[name])

    def mprm(self, name: str, *flags: str | pathlib.Path) -> str:
        """Runs a command where the rooms have the evidence of this setting."""
        return mprm(name, *map(str, flags), folder=self.place)

    def train(self, workdir: pathlib.Path, *stage: str, settings: Sequence[str]) -> dict:
        """Results of a run in a work directory; trains it if they are not there."""
        path = workdir / "results.json"
        if not path.exists():
            data = ("--data", self.args.data, "--preset", self.args.preset, "--store", self.store)
            how = ("--set", f"seed={self.seed}", *settings)
            self.mprm("train", *data, "--workdir", workdir, "--stage", *stage, *how)
        return json.loads(path.read_text(encoding="utf-8"))["measures"]


def trials(args: argparse.Namespace) -> list[Trial]:
    """All that is asked for; all settings of a seed come before the next seed."""
    chosen = [setting for name, setting in SETTINGS.items() if name in args.only]
    if args.no_networks:
        chosen = [x for x in chosen if x.tags in BASES and x.after is None]
    return [Trial(args, setting, seed) for seed in range(args.seeds) for setting in chosen]


def measure(trial: Trial) -> dict[str, Any]:
    """A row of the report; mIoU and accuracy in per cent, the person's work for a room."""
    give_evidence(trial)
    effort, row = effort_of(trial), {"setting": trial.setting.name, "seed": trial.seed}
    num_rooms = len(grid_store(trial).scenes("train"))
    is_person = trial.setting.tags != TRUTH
    row["minutes"] = effort.minutes / num_rooms if is_person else None
    row |= {name: count / num_rooms for name, count in effort._asdict().items()}
    found = {"labels": labels(trial) if trial.setting.tags in BASES else None}
    found["network"] = None if trial.args.no_networks else network(trial)
    for name in MEASURES:
        row[name] = found[name] and found[name]["miou"]
        row[f"{name}_accuracy"] = found[name] and found[name]["accuracy"]
    return row


def grid_store(trial: Trial) -> SceneStore:
    """The rooms with the tags of the whole grid; everything that is asked is answered from them."""
    trial = trial.like("tags")
    if not (trial.store / MANIFEST_FILE).exists():
        trial.place.mkdir(parents=True, exist_ok=True)
        prepare(trial)
    return SceneStore(trial.store)


def give_evidence(trial: Trial) -> None:
    """Lets the person work, and prepares the rooms with what the person said."""
    grid = grid_store(trial)
    if (trial.store / MANIFEST_FILE).exists():
        return
    link_rooms(trial.like("tags").rooms, trial.rooms)
    tags, clicks, setting = trial.rooms / TAGS_FILE, trial.rooms / CLICKS_FILE, trial.setting
    if setting.tags == HALF_RANKED:
        tag_balls(tags, grid, half_ranked(grid))
    elif setting.tags == HALF_RANDOM:
        tag_balls(tags, grid, half_at_random(grid, trial.seed))
    elif setting.tags in (SCENES, NOTHING):
        tag_scenes(tags, grid, all_classes=setting.tags == NOTHING)
    if setting.clicks and setting.way == RANDOM:
        click(clicks, grid, random_points(grid, setting.clicks, trial.seed))
    elif setting.clicks:
        click(clicks, grid, chosen_points(trial))
    prepare(trial)


def prepare(trial: Trial) -> None:
    data = ("--data", trial.args.data, "--preset", trial.args.preset)
    trial.mprm("prepare", *data, "--store", trial.store)


def link_rooms(rooms: pathlib.Path, other: pathlib.Path) -> None:
    """The same rooms in another folder, where people may say something else of them."""
    other.mkdir(parents=True, exist_ok=True)
    for path in rooms.iterdir():
        if not path.name.startswith(".") and not (other / path.name).is_symlink():
            os.symlink(path.absolute(), other / path.name)


def chosen_points(trial: Trial) -> dict[str, Array]:
    """The points that the network before asks about, behind those that it knew of, by scene."""
    before = trial.like(trial.setting.after or BASES[trial.setting.tags])
    export, labeled = Export(scores(trial)), None
    if trial.setting.after is None:
        labels(before)
        labeled = Export(before.results / "labels")  # they lie beside what `mprm tag --ask` reads
    already = clicked(before)
    count = trial.setting.clicks - before.setting.clicks
    asked = asked_points(export, SceneStore(before.store), count, already, labeled)
    nothing = np.zeros((0, 3))
    return {
        scene: np.concatenate([already.get(scene, nothing), asked.get(scene, nothing)])
        for scene in {**already, **asked}
    }


def clicked(trial: Trial) -> dict[str, Array]:
    """The points of each scene that the person clicked at, [K, 3] meters."""
    path, grid = trial.rooms / CLICKS_FILE, grid_store(trial)
    if not path.exists():
        return {}
    rows = read_clicks(path, grid.scenes("train"), grid.classes).rows
    return {scene: np.array([row.point for row in given]) for scene, given in rows.items()}


def effort_of(trial: Trial) -> Effort:
    """What the person did in all rooms."""
    grid, tags = grid_store(trial), trial.rooms / TAGS_FILE
    num_clicks = sum(map(len, clicked(trial).values()))
    if trial.setting.tags in (TRUTH, NOTHING):
        return Effort(0, 0, num_clicks)
    if trial.setting.tags == GRID:
        return count_grid(grid)._replace(clicks=num_clicks)
    given = read_tags(tags, grid.scenes("train"), grid.classes).rows.values()
    balls = [row.ball is not None for rows in given for row in rows]
    return Effort(sum(balls), len(balls) - sum(balls), num_clicks)


def scores(trial: Trial) -> pathlib.Path:
    """The export whose scores the labels of a setting are made from."""
    if trial.setting.after is not None:
        return predicted(trial.like(trial.setting.after))
    base = trial.like(BASES[trial.setting.tags])
    if base.setting.tags == GRID and trial.args.cls:
        return pathlib.Path(trial.args.cls[trial.seed]) / "pseudo_labels"
    give_evidence(base)
    run = base.results / "cls"
    base.train(run, "cls", settings=trial.args.set_cls)
    return run / "pseudo_labels"


def predicted(trial: Trial) -> pathlib.Path:
    """What the segmentation network of a setting says of the training rooms, as an export."""
    network(trial)
    export = trial.results / "predicted"
    if not (export / EXPORT_MANIFEST).exists():
        flags = ("--workdir", trial.results / "network", "--output", export)
        trial.mprm("export", *flags, "--store", trial.store)
    return export


def labels(trial: Trial) -> dict:
    """Measures of the labels after the CRF."""
    give_evidence(trial)
    path = trial.results / "labels.json"
    if not path.exists():
        flags = ("--export", scores(trial), "--output", trial.results / "labels")
        trial.results.mkdir(parents=True, exist_ok=True)
        write_whole(path, trial.mprm("refine", *flags, "--store", trial.store, "--json"))
    return json.loads(path.read_text(encoding="utf-8"))["after"]


def network(trial: Trial) -> dict:
    """Measures of a segmentation network on the validation rooms, without tags."""
    give_evidence(trial)
    targets = {TRUTH: "truth", NOTHING: "evidence"}.get(trial.setting.tags)
    if targets is None:
        labels(trial)
        targets = str(trial.results / "labels")
    how = ("seg", "--pseudo-labels", targets)
    return trial.train(trial.results / "network", *how, settings=trial.args.set)["val"]


def summarize(rows: Sequence[Mapping[str, Any]]) -> list[dict]:
    """A row for each setting: means over its seeds, deviations, share of what all labels give."""
    full = {row["seed"]: row["network"] for row in rows if row["setting"] == "truth"}
    summaries = []
    for name in dict.fromkeys(row["setting"] for row in rows):
        runs = [row for row in rows if row["setting"] == name]
        summary = {"setting": name, "minutes": _mean([run["minutes"] for run in runs])}
        for what in MEASURES:
            values = [run[what] for run in runs]
            summary[what], several = _mean(values), len(values) > 1 and None not in values
            summary[f"{what}_std"] = statistics.stdev(values) if several else None
        reached = [(run["network"], full.get(run["seed"])) for run in runs]
        shares = [100 * found / best if found and best else None for found, best in reached]
        summaries.append(rounded(summary | {"share": _mean(shares)}) | {"runs": runs})
    return summaries


def plot(path: pathlib.Path, summaries: Sequence[Mapping[str, Any]]) -> None:
    """Draws mIoU against minutes: of labels on the left, of networks on the right."""
    known = {summary["setting"]: summary for summary in summaries}
    figure = matplotlib.figure.Figure(figsize=(11.0, 5.6), dpi=110)
    curves: dict[str, Any] = {}
    for axis, name, title in zip(figure.subplots(1, 2), MEASURES, TITLES, strict=True):
        for number, (curve, members) in enumerate(CURVES.items()):
            there = [known[x] for x in members if x in known and known[x][name] is not None]
            if there:
                curves[curve] = _draw_curve(axis, there, name, f"C{number}")
        if known.get("truth", {}).get(name):
            _draw_full(axis, known["truth"][name])
        axis.set(title=title, xlabel="minutes of the person a room", ylabel="mIoU, per cent")
        axis.set_xlim(left=0)
        axis.grid(color="0.9")
    handles = {curve: curves[curve] for curve in CURVES if curve in curves}
    figure.legend(handles.values(), handles, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        figure.savefig(partial, format="png")


def _draw_curve(axis: Any, rows: Sequence[Mapping[str, Any]], name: str, color: str) -> Any:
    """Means with their deviations, in the order of their minutes."""
    minutes, means = ([row[x] for row in rows] for x in ("minutes", name))
    deviations = [row[f"{name}_std"] or 0.0 for row in rows]
    style = {"color": color, "marker": "o", "markersize": 5, "capsize": 3, "linewidth": 1.5}
    return axis.errorbar(minutes, means, deviations, **style)


def _draw_full(axis: Any, full: float) -> None:
    """What all point labels give, and how much of it is the aim."""
    for share, text, style in ((1.0, "all point labels", "-"), (AIM, f"{AIM:.0%} of it", ":")):
        axis.axhline(share * full, color="black", linewidth=1, linestyle=style)
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axis.annotate(text, (0.0, share * full), (4, 3), fontsize=8, **place)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is not known."""
    return None if None in values else statistics.mean(values)


if __name__ == "__main__":
    main()
