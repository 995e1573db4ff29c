"""Writes the Rooms data set: any number of scenes in parallel, each of them whole or not at all."""

import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.machine import keep_heap, usable_cpus
from mprm_jax.one_writer import only_writer
from mprm_jax.progress import progress_bar
from mprm_jax.reading import read_json
from mprm_jax.rooms.labels import TABLE_COLUMNS, table_rows
from mprm_jax.rooms.scan import Detail, Scan, make_scan
from mprm_jax.scans.formats.ply import ply_header, triangle_records
from mprm_jax.worker_processes import explain_lost_workers, make_pool, share_out
from mprm_jax.writing import explain_failed_write, write_whole

VERSION = 2  # of the content; raise it with every change that alters a scene


class Size(NamedTuple):
    """How many scenes, and how fine."""

    code: int  # part of the random seed, never reused
    train: int
    val: int
    test: int
    detail: Detail


class _Job(NamedTuple):
    """One scene to write."""

    root: pathlib.Path
    size: str
    seed: int
    index: int


SIZES = {
    "tiny": Size(0, 4, 2, 1, Detail(edge=0.10, cameras=4, scale=0.75)),
    "quick": Size(1, 80, 24, 4, Detail(edge=0.055, cameras=6, scale=1.0)),
    "full": Size(2, 1201, 312, 100, Detail(edge=0.026, cameras=6, scale=1.0)),
}


def generate(root: pathlib.Path, size: str, *, seed: int = 0, workers: int | None = None) -> None:
    """Writes the data set of a size under `root`; scenes that are already there are kept.

    Args:
      size: "tiny" (7 scenes), "quick" (108) or "full" (1613, as many as ScanNet).
      workers: processes; by default one per core. The result does not depend on it.

    Raises:
      ValueError: unknown size, or `root` holds something else.
      OSError: the folder cannot be written, or a process was killed.
    """
    root = pathlib.Path(root)
    _claim(root, size, seed)
    _write_lists(root, size)
    if not _missing(root, size, seed):
        return
    with only_writer(root, wait=True):
        for leftover in root.glob("scans*/.partial-*"):
            shutil.rmtree(leftover)
        jobs = _missing(root, size, seed)
        with progress_bar(len(jobs), "scenes", "making rooms") as bar:
            for _ in _written(jobs, min(workers or usable_cpus(), len(jobs))):
                bar.update()


def scan_scene(size: str, seed: int, index: int) -> Scan:
    """Returns the scan of one scene, a function of version, seed, size and number only."""
    return make_scan(scene_rng(size, seed, index), seed, index, SIZES[size].detail)


def scene_rng(size: str, seed: int, index: int) -> np.random.Generator:
    """Returns the randomness of one scene."""
    return np.random.default_rng((VERSION, seed, SIZES[size].code, index))


def num_scenes(size: str) -> int:
    """Returns the number of scenes of all splits."""
    return sum(split_counts(size).values())


def split_counts(size: str) -> dict[str, int]:
    """Returns the number of scenes by split, in the order in which they are numbered."""
    spec = SIZES[size]
    return {"train": spec.train, "val": spec.val, "test": spec.test}


def scene_name(index: int) -> str:
    """Returns the name of a scene; every scene is a space of its own."""
    return f"scene{index:04d}_00"


def scene_folder(root: pathlib.Path, size: str, index: int) -> pathlib.Path:
    """Returns where a scene is written."""
    annotated = index < num_scenes(size) - SIZES[size].test
    return root / ("scans" if annotated else "scans_test") / scene_name(index)


def write_scan(folder: pathlib.Path, name: str, scan: Scan, *, annotated: bool) -> None:
    """Writes the files of one scene into an existing folder."""
    _write_mesh(folder / f"{name}_vh_clean_2.ply", scan)
    info = [f"sceneId = {name}", "sceneType = Rooms"]
    if annotated:
        _write_annotation(folder, name, scan)
        matrix = " ".join(f"{value:.6f}" for value in scan.axis_alignment.ravel())
        info.insert(0, f"axisAlignment = {matrix}")
    (folder / f"{name}.txt").write_text("\n".join(info) + "\n", encoding="utf-8")


def label_table() -> str:
    """Returns the text of the table of raw categories."""
    rows = [list(TABLE_COLUMNS), *table_rows()]
    return "".join("\t".join(row) + "\n" for row in rows)


def _missing(root: pathlib.Path, size: str, seed: int) -> list[_Job]:
    """The scenes that are not there yet."""
    numbers = range(num_scenes(size))
    return [_Job(root, size, seed, i) for i in numbers if not scene_folder(root, size, i).exists()]


def _claim(root: pathlib.Path, size: str, seed: int) -> None:
    """Marks a new folder as ours, or checks that an old one is the same data set."""
    if size not in SIZES:
        raise UserError(f"Rooms has no size {size!r}; choose one of {', '.join(SIZES)}.")
    path = root / "rooms.json"
    wanted = {"version": VERSION, "seed": seed, "size": size}
    if path.exists():
        try:
            found = read_json(path)
        except ValueError as error:
            raise UserError(f"{path}: damaged ({error}); delete its folder.") from error
        if found != wanted:
            raise UserError(
                f"{path}: holds Rooms {found}, not {wanted}; choose another folder or delete it."
            )
        return
    # A run killed at this very point leaves a hidden file.
    if root.exists() and any(not found.name.startswith(".") for found in root.iterdir()):
        raise UserError(f"{path}: missing in a folder that is not empty; choose another folder.")
    with explain_failed_write(root):
        root.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(wanted) + "\n")


def _write_lists(root: pathlib.Path, size: str) -> None:
    """Writes the split lists and the label table, unless they are there."""
    start, texts = 0, {"scannetv2-labels.combined.tsv": label_table()}
    for split, count in split_counts(size).items():
        names = [scene_name(i) for i in range(start, start + count)]
        texts[f"scannetv2_{split}.txt"] = "".join(f"{name}\n" for name in names)
        start += count
    for name, text in texts.items():
        path = root / name
        # Readers take a newer file for a changed data set.
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text)


def _written(jobs: list[_Job], workers: int) -> Iterator[str]:
    """Writes scenes in this process or in several, and yields their names as they are done."""
    if workers < 2:
        yield from map(_write_scene, jobs)
        return
    remedy = "free some and run again: finished scenes are kept"
    with explain_lost_workers(str(jobs[0].root), remedy):
        yield from share_out(make_pool(workers, keep_heap), _write_scene, jobs)


def _write_scene(job: _Job) -> str:
    """Writes one scene beside its place and then moves it there."""
    folder = scene_folder(job.root, job.size, job.index)
    partial = folder.with_name(f".partial-{folder.name}")
    scan = scan_scene(job.size, job.seed, job.index)
    try:
        with explain_failed_write(folder):
            partial.mkdir(parents=True)
            write_scan(partial, folder.name, scan, annotated=folder.parent.name == "scans")
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder.name


def _write_mesh(path: pathlib.Path, scan: Scan) -> None:
    """Writes a binary little-endian mesh."""
    fields = [(axis, "<f4") for axis in "xyz"]
    fields += [(color, "u1") for color in ("red", "green", "blue", "alpha")]
    vertices = np.empty(len(scan.points), fields)
    for axis, column in zip("xyz", scan.points.T, strict=True):
        vertices[axis] = column
    for color, column in zip(("red", "green", "blue"), scan.colors.T, strict=True):
        vertices[color] = column
    vertices["alpha"] = 255
    with path.open("wb") as file:
        file.write(ply_header(vertices.dtype, len(scan.points), len(scan.faces)))
        file.write(vertices.tobytes())
        file.write(triangle_records(scan.faces).tobytes())


def _write_annotation(folder: pathlib.Path, name: str, scan: Scan) -> None:
    """Writes the segments and the objects they make up."""
    segments_file = f"{name}_vh_clean_2.0.010000.segs.json"
    params = {"kThresh": "0.0100", "segMinVerts": "20", "minPoints": "750", "maxPoints": "30000"}
    segments = {"params": params, "sceneId": name, "segIndices": scan.segments.tolist()}
    text = json.dumps(segments, separators=(",", ":"))
    (folder / segments_file).write_text(text, encoding="utf-8")
    groups = [
        {"id": i, "objectId": i, "segments": list(group.segments), "label": group.category}
        for i, group in enumerate(scan.groups)
    ]
    aggregation = {"sceneId": f"scannet.{name}", "appId": "Rooms", "segGroups": groups}
    aggregation["segmentsFile"] = f"scannet.{segments_file}"
    (folder / f"{name}.aggregation.json").write_text(json.dumps(aggregation), encoding="utf-8")
