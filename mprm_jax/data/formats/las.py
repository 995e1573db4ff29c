"""LAS and LAZ scans, through laspy; the LAZ decoder comes with the lazrs wheel."""

from pathlib import Path

import laspy
import lazrs
import numpy as np

from mprm_jax.data.formats.cloud import LABEL_NAMES, CloudFile, cloud_from_columns

NEVER_CLASSIFIED = 0  # LAS 1.4 specification, table of classification values


def read_las(path: Path) -> CloudFile:
    """Reads scaled coordinates, colors where the point format has them, and labels.

    Labels are an extra dimension of whole numbers with the name of a label, as in the files of
    `write_labeled`, else the classification. One that is 0 everywhere was never made and is left
    out.

    Raises:
      ValueError: the file is truncated or not LAS/LAZ.
    """
    try:
        las = laspy.read(path)
    except (laspy.LaspyException, lazrs.LazrsError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path}: not a readable LAS/LAZ file ({error}); copy or export it again."
        ) from error
    if len(las.points) != las.header.point_count:
        raise ValueError(
            f"{path}: {len(las.points)} points but the header promises {las.header.point_count}; "
            "copy the file again."
        )
    columns = {"x": np.asarray(las.x), "y": np.asarray(las.y), "z": np.asarray(las.z)}
    present = set(las.point_format.dimension_names)
    if {"red", "green", "blue"} <= present:
        columns |= {name: np.asarray(las[name]) for name in ("red", "green", "blue")}
    labels = {
        name: np.asarray(las[name])
        for name in las.point_format.extra_dimension_names
        if name.lower() in LABEL_NAMES and np.asarray(las[name]).dtype.kind in "iu"
    }
    classification = np.asarray(las.classification)
    if not labels and np.any(classification != NEVER_CLASSIFIED):
        labels["classification"] = classification
    return cloud_from_columns(path, columns | labels)
