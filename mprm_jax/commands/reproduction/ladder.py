"""The ladder from the paper's labels to the best ones: one ingredient a rung.

Every rung has its labels of the training scenes and a network that learned them; all networks are
trained alike, with as many steps, so that each can be compared with the one of point labels.
"""

import pathlib
import sys
from typing import NamedTuple

from mprm_jax.commands.jobs import Job, command
from mprm_jax.commands.reproduction.jobs import (
    Setting,
    device_flags,
    evaluation_job,
    export_job,
    printing_job,
    segmentation_jobs,
)

FIRST_CLICKS, ALL_CLICKS = 5, 20  # of a scene
LONGER = 3  # times the epochs of the preset, to see how the share changes with training


class Rung(NamedTuple):
    """One step of the ladder; `{seed}` stands in its files."""

    name: str
    meaning: str
    labels: str  # JSON with their measure
    network: str  # JSON of its evaluation


WRITTEN = {
    "written": ("the paper: highest score, of the classes of any ball", "ball", "none"),
    "calibrated": ("+ scores standardised per class", "ball", "class"),
    "intersection": ("+ of the classes that all balls have", "intersection", "class"),
}
KERNELS = {
    "crf": ("+ dense CRF as released", "released"),
    "normals": ("+ CRF that sees normals, at 4 cm", "normals"),
}
TRUTH = Rung("truth", "point labels", "", "seg/truth-{seed}.json")
LADDER = (
    *(
        Rung(name, meaning, f"ladder/{name}-{{seed}}.json", f"ladder/seg-{name}-{{seed}}.json")
        for name, (meaning, *_) in (WRITTEN | KERNELS).items()
    ),
    Rung(
        "candidates",
        "+ candidate sets: what no class can hold gets none",
        "ladder/rounds-{seed}/round-1/labels.json",
        "ladder/seg-candidates-{seed}.json",
    ),
    Rung(
        "round 2",
        "+ second round: labeled again by that network",
        "ladder/rounds-{seed}/round-2/labels.json",
        "ladder/seg-round2-{seed}.json",
    ),
    Rung(
        "clicks",
        f"+ {ALL_CLICKS} clicks a scene, {ALL_CLICKS - FIRST_CLICKS} of them asked by a network",
        "ladder/clicks-{seed}/round-2/labels.json",
        "ladder/seg-clicks-{seed}.json",
    ),
    TRUTH,
)
LONG = {
    rung: f"ladder/long-{rung.replace(' ', '')}-{{seed}}.json" for rung in ("round 2", "clicks")
}
LONG_TRUTH = "ladder/long-truth-{seed}.json"
# Results of the commands that an ingredient takes.
COST = {
    "mining, four votes a ball": ("ladder/intersection-{seed}.json",),
    "CRF as released": ("ladder/crf-{seed}.json",),
    "CRF that sees normals": ("ladder/normals-{seed}.json",),
    "one network": ("seg/truth-{seed}/results.json",),
    "two rounds: two CRFs, two networks, the scores between": ("ladder/rounds-{seed}.json",),
    f"{ALL_CLICKS} clicks: asking and preparing twice, two CRFs, two networks": tuple(
        f"ladder/clicks-{{seed}}-{step}.json"
        for step in (FIRST_CLICKS, "round1", ALL_CLICKS, "round2")
    ),
    f"one network, {LONGER} times the steps": ("ladder/long-truth-{seed}/results.json",),
}


def ladder_jobs(setting: Setting, seed: int, epochs: int) -> list[Job]:
    """The commands of all rungs of a seed, after its network of stage cls.

    Args:
      epochs: of the networks, as in their preset.
    """
    run, folder = f"MPRM-subcloud-{seed}", setting.root / "ladder"
    mined = setting.root / "cls" / run / "pseudo_labels"
    jobs = []
    for name, (_, allowed, calibration) in WRITTEN.items():
        mining = (f"mining.allowed={allowed}", f"mining.calibration={calibration}")
        jobs.append(export_job(setting, run, "train", f"ladder/{name}-{seed}", mining))
    for name, (_, kernels) in KERNELS.items():
        place = f"ladder/{name}-{seed}"
        flags = ("--export", str(folder / f"intersection-{seed}"), "--kernels", kernels)
        flags += ("--output", str(setting.root / place), "--json")
        jobs.append(printing_job(setting, f"CRF {place}", "refine", flags, f"{place}.json"))
    # The ends of the ladder first: they say how much there is to gain.
    jobs += segmentation_jobs(setting, f"seg/truth-{seed}", "truth", seed)
    rounds = folder / f"rounds-{seed}"
    jobs.append(_rounds(setting, seed, mined, setting.store, rounds, f"rounds-{seed}", 2))
    for number, name in ((1, "candidates"), (2, "round2")):
        network = rounds / f"round-{number}" / "network"
        jobs.append(evaluation_job(setting, network, f"ladder/seg-{name}-{seed}"))
    jobs += _with_clicks(setting, seed, mined, rounds)
    for name in (*WRITTEN, *KERNELS):
        labels = str(folder / f"{name}-{seed}")
        jobs += segmentation_jobs(setting, f"ladder/seg-{name}-{seed}", labels, seed)
    best = {"round2": rounds / "round-2" / "labels"}
    best["clicks"] = folder / f"clicks-{seed}" / "round-2" / "labels"
    longer = (f"optim.epochs={LONGER * epochs}",)
    for name, labels in best.items():
        store = folder / f"clicked-{seed}" / "prepared" if name == "clicks" else None
        of_store = (
            setting
            if store is None
            else setting._replace(store=store, own_store=False, data=f"store:{store}")
        )
        place = f"ladder/long-{name}-{seed}"
        jobs += segmentation_jobs(of_store, place, str(labels), seed, longer)
    return [*jobs, *segmentation_jobs(setting, f"ladder/long-truth-{seed}", "truth", seed, longer)]


def _with_clicks(
    setting: Setting, seed: int, mined: pathlib.Path, rounds: pathlib.Path
) -> list[Job]:
    """First clicks asked by MPRM, the others by the network of the first round; two rounds."""
    folder, prefix = setting.root / "ladder", f"clicks-{seed}"
    scans, workdir = folder / f"clicked-{seed}", folder / prefix
    store = scans / "prepared"
    asks = {FIRST_CLICKS: (mined, ("--labels", str(rounds / "round-1" / "labels")))}
    asks[ALL_CLICKS] = (workdir / "round-1" / "network" / "pseudo_labels", ())
    jobs = []
    for number, (count, (export, more)) in enumerate(asks.items(), start=1):
        flags = ("--data", setting.data, "--store", str(setting.store), "--export", str(export))
        flags += (*more, "--clicks", str(count), "--folder", str(scans), "--prepared", str(store))
        line = (sys.executable, "-m", "mprm_jax.commands.reproduction.person", *flags)
        result = folder / f"{prefix}-{count}.json"
        jobs.append(Job(f"answer {count} clicks a scene, seed {seed}", line, result, True))
        name = f"{prefix}-round{number}"
        jobs.append(_rounds(setting, seed, mined, store, workdir, name, 1))
    network = workdir / "round-2" / "network"
    jobs.append(evaluation_job(setting, network, f"ladder/seg-{prefix}"))
    return jobs


def _rounds(
    setting: Setting,
    seed: int,
    mined: pathlib.Path,
    store: pathlib.Path,
    workdir: pathlib.Path,
    name: str,
    count: int,
) -> Job:
    """Rounds that train every network anew, with as many steps as those of the other rungs."""
    flags = ("--export", str(mined), "--store", str(store), "--workdir", str(workdir), "--anew")
    flags += ("--rounds", str(count), "--preset", setting.preset, *device_flags(setting), "--json")
    flags += ("--set", f"seed={seed}", *setting.overrides)
    return Job(
        f"rounds {name}",
        command("rounds", *flags),
        setting.root / "ladder" / f"{name}.json",
        True,
    )
