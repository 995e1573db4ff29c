"""LAS and LAZ scans, through laspy; the LAZ decoder comes with the lazrs wheel."""

from pathlib import Path

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.scans.formats.cloud import LABEL_NAMES, CloudFile, cloud_from_columns
from mprm_jax.scans.formats.las_header import holds_more, open_las
from mprm_jax.scans.formats.notes import MORE_POINTS

NEVER_CLASSIFIED = 0  # LAS 1.4 specification, table of classification values
COLORS = ("red", "green", "blue")


def read_las(path: Path) -> CloudFile:
    """Reads scaled coordinates, colors where the point format has them, and labels.

    Labels are an extra dimension of whole numbers with the name of a label, as in the files of
    `write_labeled`, else the classification. One that is 0 everywhere was never made and is left
    out.

    Raises:
      ValueError: the file is truncated or not LAS/LAZ.
    """
    with open_las(path) as reader:
        num_points, is_more = reader.header.point_count, holds_more(path, reader.header)
        points = reader.read_points(-1)
        if len(points) != num_points:
            raise UserError(f"{len(points)} of {num_points} points")
        columns = {name: np.asarray(points[name]) for name in "xyz"}
        if set(COLORS) <= set(points.point_format.dimension_names):
            columns |= {name: np.asarray(points[name]) for name in COLORS}
        labels = {
            name: np.asarray(points[name])
            for name in points.point_format.extra_dimension_names
            if name.lower() in LABEL_NAMES and np.asarray(points[name]).dtype.kind in "iu"
        }
        classification = np.asarray(points["classification"])
    if not labels and np.any(classification != NEVER_CLASSIFIED):
        labels["classification"] = classification
    cloud = cloud_from_columns(path, (columns | labels).items())
    return cloud._replace(notes=(*cloud.notes, MORE_POINTS)) if is_more else cloud
