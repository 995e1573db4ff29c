"""A cloud with what a network says of each point, checked before it is written."""

from pathlib import Path
from typing import NamedTuple

from mprm_jax.errors import UserError
from mprm_jax.palette import label_bytes
from mprm_jax.scans.formats.cloud import CloudFile
from mprm_jax.types import IGNORED, Array


class LabeledCloud(NamedTuple):
    """Points as they were read, and their labels; labels that the cloud came with are left out."""

    cloud: CloudFile  # N points
    labels: Array  # [N] integer class index, IGNORED (-1) for none
    confidence: Array  # [N] float in [0, 1]; 0 where there is no label
    classes: tuple[str, ...]  # names in index order


def color_by_class(labeled: LabeledCloud) -> LabeledCloud:
    """The same cloud with the colors of its legend in place of those of the scan."""
    colors = label_bytes(labeled.labels, len(labeled.classes))
    return labeled._replace(cloud=labeled.cloud._replace(colors=colors))


def check_labeled(path: Path, labeled: LabeledCloud) -> None:
    """Raises `ValueError` if labels do not fit the cloud or the classes; `path` is named in it."""
    num_points = len(labeled.cloud.coords)
    for what, values in (("labels", labeled.labels), ("confidences", labeled.confidence)):
        if values.shape != (num_points,):
            raise UserError(
                f"{path}: {what} of shape {list(values.shape)} for {num_points} points; "
                "give one for each point of the file."
            )
    wrong = (labeled.labels < IGNORED) | (labeled.labels >= len(labeled.classes))
    if labeled.labels.dtype.kind not in "iu" or wrong.any():
        found = labeled.labels[wrong][0] if wrong.any() else labeled.labels.dtype
        raise UserError(
            f"{path}: label {found} is no index of {len(labeled.classes)} classes; "
            f"give integers, and {IGNORED} for none."
        )
    within = (labeled.confidence >= 0) & (labeled.confidence <= 1)
    if not within.all():
        raise UserError(
            f"{path}: confidence {labeled.confidence[~within][0]} is not in [0, 1]; "
            "give probabilities."
        )
