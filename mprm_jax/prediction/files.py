"""Labels files of scans: finds network and scans, reads, predicts, writes, reports."""

import collections
import dataclasses
import logging
import pathlib
import time
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mprm_jax.errors import SCAN_ERRORS, MissingError, UserError, explain, is_device_out_of_memory
from mprm_jax.palette import class_palette
from mprm_jax.prediction.network import Network
from mprm_jax.prediction.predictor import Predictor, PredictSettings, VoxelizedScan, load_scan
from mprm_jax.progress import Report, progress_bar
from mprm_jax.scans.formats.labeled import (
    LAS_SUFFIXES,
    WRITERS,
    LabeledCloud,
    check_labeled_las,
    color_by_class,
    legend_path,
    write_labeled,
)
from mprm_jax.scans.formats.notes import log_new_notes
from mprm_jax.scans.scan_files import scan_files
from mprm_jax.store.manifest import StoreSettings
from mprm_jax.training.start import keep_programs
from mprm_jax.types import IGNORED, Array
from mprm_jax.writing import explain_failed_write, require_place

logger = logging.getLogger(__name__)

PLY = ".ply"
COLORED = ".colored.ply"
SCALE_FLAG = "--scale 0.001"


class ScanJob(NamedTuple):
    """One scan to label."""

    source: pathlib.Path
    target: pathlib.Path
    colored: pathlib.Path | None  # PLY in the colors of the classes, if wanted


class ScanJobs(NamedTuple):
    """All scans to label, and those that cannot be, whatever is in them."""

    jobs: list[ScanJob]
    refused: dict[pathlib.Path, str]  # why the labels of a scan cannot be written


class DoneScan(NamedTuple):
    """What became of a scan."""

    job: ScanJob
    num_voxels: int
    counts: Array  # [num_classes + 1] int64, points by label; the last have none
    seconds: float  # from opening the file to the end of writing


def scan_jobs(
    scans: pathlib.Path, output: pathlib.Path, format_name: str | None, *, colored: bool
) -> ScanJobs:
    """Finds the scans; nothing is written yet.

    Args:
      scans: a file, or a folder whose scans keep their places below `output`.
      format_name: of the files to write, such as "laz"; that of the scan if None, else PLY where
        labels cannot be written so.
      colored: also write a PLY in the colors of the classes.

    Raises:
      OSError: there are no scans, or no place to write to.
      UserError: the only scan would be overwritten, or another file that is no prediction.
    """
    sources, root = _sources(scans, output)
    require_place(output / "*")
    jobs = []
    for source in sources:
        suffix = source.suffix.lower() if format_name is None else f".{format_name}"
        target = output / source.relative_to(root).with_suffix(suffix if suffix in WRITERS else PLY)
        jobs.append(ScanJob(source, target, target.with_suffix(COLORED) if colored else None))
    own = {_identity(source) for source in sources if source.exists()}
    times = collections.Counter(path for job in jobs for path in _written(job))
    found = ScanJobs([], {})
    for job in jobs:
        try:
            for path in _written(job):
                _check_target(path, own, times[path])
            found.jobs.append(job)
        except UserError as error:
            if len(jobs) == 1:
                raise
            found.refused[job.source] = str(error)
    return found


def predict_run(
    workdir: pathlib.Path,
    scans: pathlib.Path,
    output: pathlib.Path,
    *,
    checkpoint: str = "last",
    format_name: str | None = None,
    colored: bool = False,
    scale: float | None = None,
    settings: PredictSettings | None = None,
    num_devices: int | None = None,
    workers: int = 0,
) -> Report:
    """Labels every point of a scan or of a folder of scans.

    One of many that cannot be read, predicted or written does not keep the others from being done;
    the values name it, and why, as `left_out`.

    Args:
      workdir: of a run of stage seg.
      scans, output, format_name, colored: as of `scan_jobs`.
      scale: meters per unit of the scans; that of the run if None.
      num_devices: all if None.
      workers: processes that build input; 0 means one thread.

    Raises:
      OSError: no run, no checkpoint, no scans, or a file cannot be written.
      ValueError: a run of the other stage, or the only scan would be overwritten, cannot be read,
        lacks the colors that the network needs, or has no point with a position.
    """
    jobs, refused = scan_jobs(scans, output, format_name, colored=colored)
    network = Network(workdir, checkpoint, stage="seg", num_devices=num_devices, workers=workers)
    keep_programs(workdir)
    unit = scale or network.config.data.scale
    logger.info("%s: a unit of the scans is taken for %g m (--scale)", scans, unit)
    predictor = network.predictor(settings or PredictSettings())
    done, told, start = [], set(), time.monotonic()
    left_out = {str(source): why for source, why in refused.items()}
    for why in left_out.values():
        logger.error("left out: %s", why)
    for job in jobs:
        began = time.monotonic()
        try:
            scan = _load(job, network, scale)
            log_new_notes(str(job.source), scan.cloud.notes, told)
            counts = _label(job, scan, network, predictor)
        except (*SCAN_ERRORS, jax.errors.JaxRuntimeError) as error:
            only_one = len(jobs) + len(refused) == 1
            if only_one or not (isinstance(error, SCAN_ERRORS) or is_device_out_of_memory(error)):
                raise
            left_out[str(job.source)] = explain(error)
            logger.error("left out: %s", left_out[str(job.source)])
            continue
        done.append(DoneScan(job, len(scan.voxels.coords), counts, time.monotonic() - began))
    values = _values(network, predictor.settings, done, time.monotonic() - start)
    values |= {"workdir": str(workdir), "left_out": left_out}
    return Report(values, _text(values, network.classes))


def _written(job: ScanJob) -> list[pathlib.Path]:
    return [path for path in (job.target, job.colored) if path is not None]


def _check_target(path: pathlib.Path, own: Collection[tuple[int, int]], times: int) -> None:
    """Raises `UserError` if a file is not to be written, `times` is how often it would be."""
    require_place(path)
    if times > 1:
        raise UserError(f"{path}: would hold two predictions; rename one of the scans.")
    if path.exists() and _identity(path) in own:
        raise UserError(f"{path}: is a scan itself; choose another --output or --format.")
    if path.exists() and not legend_path(path).exists():
        raise UserError(f"{path}: exists and is no earlier prediction; choose another --output.")


def _identity(path: pathlib.Path) -> tuple[int, int]:
    """The same for all names of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _sources(scans: pathlib.Path, output: pathlib.Path) -> tuple[list[pathlib.Path], pathlib.Path]:
    """The scans, and the folder that their places are relative to."""
    if not scans.exists():
        raise MissingError(f"{scans}: no such file or folder; give a scan, or many of them.")
    if not scans.is_dir():
        return [scans], scans.parent
    own, given = output.resolve(), scans.resolve()
    if own == given:
        raise UserError(f"{output}: is the folder of the scans; choose another --output.")
    found = scan_files(scans)
    if own.is_relative_to(given):
        found = [path for path in found if not path.resolve().is_relative_to(own)]
    if not found:
        raise MissingError(f"{scans}: no scans besides the predictions in {output}.")
    return list(found), scans


def _load(job: ScanJob, network: Network, scale: float | None) -> VoxelizedScan:
    """Reads a scan; raises `ValueError` also if its target could not hold it."""
    data = network.config.data
    stored = dataclasses.replace(StoreSettings.of(data), scale=scale or data.scale)
    colored = network.uses_colors
    scan = load_scan(job.source, stored, use_colors=colored, unit_flag=SCALE_FLAG)
    if not colored and scan.cloud.colors is not None:
        logger.info("%s: its colors do not count, the network was trained without", job.source)
    if job.target.suffix in LAS_SUFFIXES:
        nothing = np.full(len(scan.point_voxel), IGNORED), np.zeros(len(scan.point_voxel))
        labeled = LabeledCloud(scan.cloud, *nothing, network.classes)
        check_labeled_las(job.target, labeled, None)
    return scan


def _label(job: ScanJob, scan: VoxelizedScan, network: Network, predictor: Predictor) -> Array:
    """Predicts and writes one scan; returns its points by label, [num_classes + 1]."""
    num_points, classes = len(scan.point_voxel), network.classes
    with progress_bar(num_points, "points", job.source.name) as bar:
        share = 0.0

        def advance(done: float) -> None:
            nonlocal share
            share += done
            bar.update(round(share * num_points) - bar.n)

        found = predictor.points(scan, str(job.source), advance)
    labeled = LabeledCloud(scan.cloud, found.label, found.confidence, classes)
    with explain_failed_write(job.target):
        job.target.parent.mkdir(parents=True, exist_ok=True)
    write_labeled(job.target, labeled, job.source)
    if job.colored is not None:
        write_labeled(job.colored, color_by_class(labeled))
    # The last bin counts labels of -1.
    return np.roll(np.bincount(found.label + 1, minlength=len(classes) + 1), -1)


def _values(
    network: Network, settings: PredictSettings, done: Sequence[DoneScan], seconds: float
) -> dict[str, Any]:
    """What was done, as JSON."""
    classes = network.classes
    counts = sum((scan.counts for scan in done), np.zeros(len(classes) + 1, np.int64))
    return {
        "step": network.step,
        "votes": settings.votes,
        "augmented": settings.augment,
        "points": int(counts.sum()),
        "points_without_position": int(counts[-1]),
        "seconds": round(seconds, 2),
        "points_per_second": round(float(counts.sum()) / seconds, 1),
        "points_by_class": dict(zip(classes, counts[:-1].tolist(), strict=True)),
        "scans": [
            {
                "scan": str(scan.job.source),
                "labels": str(scan.job.target),
                "points": int(scan.counts.sum()),
                "voxels": scan.num_voxels,
                "seconds": round(scan.seconds, 2),
            }
            for scan in done
        ],
    }


def _text(values: dict[str, Any], classes: Sequence[str]) -> str:
    """The same for people, with the legend of the classes that were found."""
    palette = np.round(255 * class_palette(len(classes))).astype(int)
    lines = [f"{'color':8} {'class':20} share of points"]
    for name, color in zip(classes, palette, strict=True):
        if values["points_by_class"][name]:
            share = 100 * values["points_by_class"][name] / values["points"]
            lines.append(f"#{bytes(color.tolist()).hex():7} {name:20} {share:5.1f} %")
    if values["points_without_position"]:
        lines.append(f"{values['points_without_position']} points have no position and no label")
    lines += [f"{scan['scan']} -> {scan['labels']}" for scan in values["scans"]]
    for scan, why in values["left_out"].items():
        lines.append(f"left out: {why if scan in why else f'{scan}: {why}'}")
    how = "augmented at random" if values["augmented"] else "not augmented"
    lines.append(
        f"{values['workdir']}, step {values['step']}, votes {values['votes']}, {how}: "
        f"{values['points']:,} points in {values['seconds']:.1f} s, "
        f"{values['points_per_second']:,.0f} points/s with reading and writing"
    )
    return "\n".join(lines)
