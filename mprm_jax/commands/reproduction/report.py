"""Puts tables and pictures together into `report.md` and `report.html`, numbers into JSON."""

import json
import os
import pathlib
import shlex
import shutil
from collections.abc import Sequence

from mprm_jax.commands.jobs import Job
from mprm_jax.commands.reproduction.jobs import Setting
from mprm_jax.commands.reproduction.render import (
    ABSENT,
    Block,
    Heading,
    Picture,
    Table,
    Text,
    to_html,
    to_markdown,
)
from mprm_jax.commands.reproduction.tables import (
    Results,
    class_table,
    cost_table,
    label_table,
    ladder_table,
    path_table,
    rule_table,
    supervision_table,
    tag_table,
    validation_table,
)
from mprm_jax.machine import describe_machine
from mprm_jax.overrides import override, setting_values
from mprm_jax.presets import PRESETS, STAGES
from mprm_jax.provenance import made_by
from mprm_jax.scans.scannet import CLASSES as SCANNET_CLASSES
from mprm_jax.store.scenes import SceneStore
from mprm_jax.writing import write_whole

# Pictures of the first seed: where a job leaves them, their name beside the report, what they show.
_PICTURES = (
    ("cls/MPRM-subcloud-0/pseudo_labels.png", "maps.png", "Figure 5: maps and pseudo-labels"),
    ("crf/MPRM-subcloud-0/refined.png", "crf.png", "Pseudo-labels before and after the CRF"),
    ("seg/crf-0.png", "retrained.png", "Figure 6: validation, retrained on tags alone"),
    ("ladder/seg-clicks-0.png", "clicks.png", "Validation, retrained on tags and 20 clicks a room"),
    ("seg/truth-0.png", "supervised.png", "Figure 6: validation, fully supervised"),
)


def write_report(
    setting: Setting, store: SceneStore, seeds: Sequence[int], jobs: Sequence[Job]
) -> pathlib.Path:
    """Writes the report of the jobs that are done; returns its place."""
    setting.root.mkdir(parents=True, exist_ok=True)
    results = Results(setting.root, seeds)
    # Rooms have ScanNet's classes too, but the paper's numbers say nothing about them.
    with_paper = store.manifest.name == "scannet" and tuple(store.classes) == tuple(SCANNET_CLASSES)
    blocks: list[Block] = [
        Heading(f"MPRM on {store.manifest.name}", 1),
        *_introduction(setting, store, seeds),
        *tag_table(results, with_paper),
        *label_table(results, with_paper),
        *class_table(results),
        *path_table(results, with_paper),
        *rule_table(results),
        *validation_table(results, with_paper),
        *supervision_table(results, with_paper),
        *ladder_table(results),
        *cost_table(results),
        *_pictures(setting.root),
        *_settings(setting),
    ]
    numbers = _numbers(setting, seeds, results, jobs, blocks)
    # A report names no machine's folders.
    text = json.dumps(numbers, indent=1).replace(_in_json(f"{setting.root}{os.sep}"), "")
    for place in (setting.store.absolute(), setting.store):
        text = text.replace(_in_json(str(place)), setting.store.name)
    write_whole(setting.root / "report.json", text)
    write_whole(setting.root / "report.html", to_html(blocks))
    write_whole(setting.root / "report.md", to_markdown(blocks))
    return setting.root / "report.md"


def command(setting: Setting, seeds: Sequence[int]) -> str:
    """What makes the report again, in a work directory and a place of its own."""
    words = ["python", "experiments/reproduce.py", "--data", setting.data]
    words += ["--preset", setting.preset, "--seeds", str(len(seeds))]
    words += [] if setting.devices is None else ["--devices", str(setting.devices)]
    return shlex.join([*words, *(["--set", *setting.overrides] if setting.overrides else [])])


def _in_json(path: str) -> str:
    """The path as it stands inside of a JSON string, where backslashes are doubled."""
    return json.dumps(path)[1:-1]


def _introduction(setting: Setting, store: SceneStore, seeds: Sequence[int]) -> list[Block]:
    scenes = ", ".join(f"{len(store.scenes(split))} {split}" for split in store.splits)
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    return [
        Text(
            f"Data {setting.data} ({scenes} scenes, voxels of "
            f"{100 * store.manifest.settings.voxel_size:g} cm), preset {setting.preset}, "
            f"{len(seeds)} seeds, changed settings: {' '.join(setting.overrides) or 'none'}. "
            "Mean ± sample deviation over seeds; in per cent, on voxels. "
            f"A blank was not measured yet; {ABSENT} stands for a class that does not occur."
        ),
        Text(f"Measured with `{command(setting, seeds)}`: {machine}."),
    ]


def _settings(setting: Setting) -> list[Block]:
    """All settings of both stages before calibration; of PCAM, MPRM and scene tags see the note."""
    values = {
        stage: setting_values(override(PRESETS[setting.preset](stage), setting.overrides))
        for stage in STAGES
    }
    rows = [[name, *(found[name] for found in values.values())] for name in values["cls"]]
    note = (
        "PCAM is model.paths=plain, scene tags are data.labels=scene, seeds count from 0; 0 and () "
        "are calibrated from the data."
    )
    return [Heading("Settings"), Text(note), Table(["setting", *values], rows)]


def _numbers(
    setting: Setting,
    seeds: Sequence[int],
    results: Results,
    jobs: Sequence[Job],
    blocks: Sequence[Block],
) -> dict:
    """The report for programs: tables as they are printed, and the result of every job."""
    titles: list[str] = []
    tables = {}
    for block in blocks:
        titles += [block.text] if isinstance(block, Heading) else []
        if isinstance(block, Table):
            tables[titles[-1]] = [block.columns, *block.rows]
    files = [str(job.result.relative_to(setting.root)) for job in jobs]
    return {
        "command": command(setting, seeds),
        "data": setting.data,
        "preset": setting.preset,
        "settings": list(setting.overrides),
        "seeds": list(seeds),
        "machine": made_by(),
        "tables": tables,
        "jobs": {file: found for file in files if (found := results.load(file)) is not None},
    }


def _pictures(root: pathlib.Path) -> list[Block]:
    """The pictures that are there, copied beside the report."""
    blocks: list[Block] = []
    for place, name, caption in _PICTURES:
        if (root / place).exists():
            shutil.copyfile(root / place, root / name)
            blocks.append(Picture(name, caption))
    return [Heading("Pictures"), *blocks] if blocks else []
