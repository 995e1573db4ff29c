"""The commands of the paper's experiments, in the order in which one needs the results of another.

Every job has a folder of its own below the work directory and leaves one JSON file there, last. A
job whose file exists is done.
"""

import itertools
import json
import pathlib
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any, NamedTuple

from mprm_jax.commands.jobs import Job, command
from mprm_jax.errors import UserError, explain_damage
from mprm_jax.reading import read_json
from mprm_jax.types import PATHS
from mprm_jax.writing import explain_failed_write, require_place, write_whole

if TYPE_CHECKING:  # it brings SciPy, for which --help should not wait
    from mprm_jax.store.scenes import SceneStore

NETWORKS = {"PCAM": ("model.paths=plain",), "MPRM": ()}
TAGS = ("scene", "subcloud")
# Table 3: one network, different paths merged; the maximum unless it says sum.
FUSIONS = {
    **{path: ((path,), "max") for path in PATHS},
    **{f"plain+{path}": (("plain", path), "max") for path in PATHS[1:]},
    "all": (PATHS, "max"),
    "all, sum": (PATHS, "sum"),
}
# Which classes a point may take; not of the paper, measured on the same network as Table 3.
RULES = ("intersection", "ball", "scene")
CALIBRATIONS = ("class", "none")
TARGETS = ("pseudo", "crf", "truth")  # what segmentation networks learn
_CLAIM = "setting.json"
TRAIN_LIST = "train.txt"  # names of the training scenes, of which Table 1 is
GROUPS = ("tags", "labels", "paths", "retraining", "ladder")


# Classification networks that a group of experiments starts from.
_CLASSIFIERS = {
    "labels": tuple(itertools.product(TAGS, NETWORKS)),
    "paths": (("subcloud", "MPRM"),),
    "retraining": (("subcloud", "PCAM"), ("subcloud", "MPRM")),
    "ladder": (("subcloud", "MPRM"),),
}


class Setting(NamedTuple):
    """What all jobs share."""

    root: pathlib.Path  # work directory
    data: str
    preset: str
    store: pathlib.Path
    devices: int | None
    overrides: Sequence[str]
    own_store: bool = False  # the prepared data are not where mprm train would look for them


def claim(setting: Setting, store: "SceneStore") -> None:
    """Notes what the results of a work directory are of, and lists the training scenes.

    Raises:
      ValueError: they are of something else.
      OSError: it cannot be written.
    """
    path = setting.root / _CLAIM
    values = {"preset": setting.preset, "settings": list(setting.overrides)}
    values["data"] = _fingerprints(store)
    found = _claimed(setting.root)
    if found is not None:
        changed = [name for name, value in values.items() if found.get(name) != value]
        if changed:
            raise UserError(
                f"{path}: the results there are of other {' and '.join(changed)}; "
                "choose another --workdir."
            )
    require_place(path)
    with explain_failed_write(path):
        setting.root.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(values | {"source": store.manifest.spec}, indent=1))
    write_whole(setting.root / TRAIN_LIST, "".join(f"{x}\n" for x in store.scenes("train")))


def is_report_of(root: pathlib.Path, store: "SceneStore") -> bool | None:
    """Whether the results of a work directory are of the same scans; None if there are none.

    Raises:
      ValueError: what they are of is damaged.
    """
    found = _claimed(root)
    if found is None:
        return None
    # Earlier versions did not note the source.
    same_source = store.manifest.spec and found.get("source") == store.manifest.spec
    return bool(same_source) or found.get("data") == _fingerprints(store)


def make_jobs(setting: Setting, seeds: Sequence[int], groups: Sequence[str]) -> list[Job]:
    """All jobs of some groups of experiments."""
    jobs = [_tag_statistics(setting)] if "tags" in groups else []
    wanted = {pair for group in groups for pair in _CLASSIFIERS.get(group, ())}
    jobs += [job for seed in seeds for job in _label_jobs(setting, seed, wanted)]
    if "retraining" in groups:
        jobs += [job for seed in seeds for job in _retraining_jobs(setting, seed)]
    if "paths" in groups:
        jobs += [job for seed in seeds for job in _path_jobs(setting, seed)]
    return jobs


def _claimed(root: pathlib.Path) -> dict[str, Any] | None:
    """What the results of a work directory are of."""
    path = root / _CLAIM
    if not path.exists():
        return None
    with explain_damage(path, "choose another --workdir"):
        return dict(read_json(path))


def _fingerprints(store: "SceneStore") -> dict[str, str]:
    return {split: store.fingerprint(split) for split in store.splits}


def _tag_statistics(setting: Setting) -> Job:
    flags = ("stats", "--labels", str(setting.store), "--json")
    flags += ("--split", str(setting.root / TRAIN_LIST))
    return printing_job(setting, "tag statistics", "weak-labels", flags, "tags.json")


def _label_jobs(setting: Setting, seed: int, wanted: Set[tuple[str, str]]) -> list[Job]:
    """Table 2: trains, exports and refines.

    Args:
      wanted: (tags, network) pairs.
    """
    jobs = []
    for tags, (network, paths) in itertools.product(TAGS, NETWORKS.items()):
        if (tags, network) not in wanted:
            continue
        name = f"{network}-{tags}-{seed}"
        settings = (f"seed={seed}", f"data.labels={tags}", *paths)
        jobs.append(training_job(setting, f"cls/{name}", ("--stage", "cls"), settings))
        export = setting.root / "cls" / name / "pseudo_labels"
        flags = ("--export", str(export), "--output", str(setting.root / "crf" / name))
        flags += ("--kernels", "released", "--picture", "--json")
        jobs.append(printing_job(setting, f"CRF {name}", "refine", flags, f"crf/{name}.json"))
    return jobs


def _path_jobs(setting: Setting, seed: int) -> list[Job]:
    """Table 3: merges different paths of one network, on both splits; and the rules for tags."""
    jobs = []
    for (fusion, (paths, kind)), split in itertools.product(FUSIONS.items(), ("train", "val")):
        mining = (f"mining.paths={','.join(paths)}", f"mining.fusion={kind}", "mining.votes=1")
        name = f"paths/{fusion.replace(', ', '-')}-{split}-{seed}"
        jobs.append(export_job(setting, f"MPRM-subcloud-{seed}", split, name, mining))
    for rule, calibration in itertools.product(RULES, CALIBRATIONS):
        mining = (f"mining.allowed={rule}", f"mining.calibration={calibration}", "mining.votes=1")
        name = f"rules/{rule}-{calibration}-{seed}"
        jobs.append(export_job(setting, f"MPRM-subcloud-{seed}", "train", name, mining))
    return jobs


def _retraining_jobs(setting: Setting, seed: int) -> list[Job]:
    """Tables 4 and 5: maps on the validation split, and segmentation networks."""
    jobs = []
    for network in NETWORKS:
        name = f"val/{network}-{seed}"
        jobs.append(export_job(setting, f"{network}-subcloud-{seed}", "val", name, ()))
    flags = ("--export", str(setting.root / "val" / f"MPRM-{seed}"))
    flags += ("--output", str(setting.root / "val" / f"MPRM-CRF-{seed}"))
    flags += ("--kernels", "released", "--json")
    result = f"val/MPRM-CRF-{seed}.json"
    jobs.append(printing_job(setting, f"CRF on val, {seed}", "refine", flags, result))
    targets = {
        "pseudo": setting.root / "cls" / f"MPRM-subcloud-{seed}" / "pseudo_labels",
        "crf": setting.root / "crf" / f"MPRM-subcloud-{seed}",
        "truth": "truth",
    }
    for target, labels in targets.items():
        jobs += segmentation_jobs(setting, f"seg/{target}-{seed}", str(labels), seed)
    return jobs


def segmentation_jobs(
    setting: Setting, name: str, labels: str, seed: int, settings: tuple[str, ...] = ()
) -> list[Job]:
    """Trains a segmentation network on labels, and measures it with and without tags."""
    stage = ("--stage", "seg", "--pseudo-labels", labels)
    settings = (f"seed={seed}", *settings)
    training = training_job(setting, name, stage, settings)
    return [training, evaluation_job(setting, setting.root / name, name)]


def evaluation_job(setting: Setting, workdir: pathlib.Path, name: str) -> Job:
    """Measures the segmentation network of a run on the validation scenes, and draws one."""
    flags = ("--workdir", str(workdir), "--split", "val", "--tags", "--json")
    flags += ("--picture", str(setting.root / f"{name}.png"))
    return printing_job(setting, f"evaluate {name}", "evaluate", flags, f"{name}.json")


def training_job(
    setting: Setting, name: str, stage: tuple[str, ...], settings: tuple[str, ...]
) -> Job:
    """Trains in the work directory of this name."""
    workdir = setting.root / name
    flags = (*stage, "--data", setting.data, "--preset", setting.preset, "--workdir", str(workdir))
    flags += ("--store", str(setting.store)) if setting.own_store else ()
    flags += (*device_flags(setting), "--set", *settings, *setting.overrides)
    return Job(f"train {name}", command("train", *flags), workdir / "results.json", False)


def export_job(setting: Setting, run: str, split: str, name: str, mining: tuple[str, ...]) -> Job:
    """Exports the pseudo-labels of a run of stage cls."""
    flags = ("--workdir", str(setting.root / "cls" / run), "--split", split, "--json")
    flags += ("--output", str(setting.root / name), *device_flags(setting))
    flags += ("--set", *mining) if mining else ()
    return printing_job(setting, f"export {name}", "export", flags, f"{name}.json")


def printing_job(
    setting: Setting, title: str, script: str, flags: tuple[str, ...], result: str
) -> Job:
    """A command whose JSON is kept."""
    return Job(title, command(script, *flags), setting.root / result, True)


def device_flags(setting: Setting) -> tuple[str, ...]:
    """How many devices networks use."""
    return () if setting.devices is None else ("--devices", str(setting.devices))
