"""S3DIS's 6-fold rule over the results of six networks, each measured on the area it left out."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mprm_jax.errors import UserError
from mprm_jax.evaluation.quality import measure, sum_six_areas
from mprm_jax.evaluation.quality_table import measure_values, quality_table
from mprm_jax.evaluation.reports import Report
from mprm_jax.types import Array


def combine_areas(paths: Sequence[pathlib.Path]) -> Report:
    """Measures the sum of six results.

    Args:
      paths: what `evaluate.py --output` wrote for each area.

    Raises:
      FileNotFoundError: a result is not there.
      ValueError: a file is no such result, an area is missing or there twice, or the results were
        not measured alike.
    """
    results = {path: _read(path) for path in paths}
    areas = [result["test_area"] for result in results.values()]
    if len(set(areas)) < len(areas):
        raise UserError(f"results of areas {areas}; give one result of each area.")
    first = next(iter(results.values()))
    for path, result in results.items():
        for key in ("classes", "votes", "augmented", "measured"):
            if result.get(key) != first.get(key):
                raise UserError(f"{path}: {key} differs from {paths[0]}; measure all areas alike.")
        if result["columns"].keys() != first["columns"].keys():
            raise UserError(f"{path}: other columns than {paths[0]}; measure all areas alike.")
    found = {}
    for column in first["columns"]:
        of_column = {r["test_area"]: _confusion(r, column) for r in results.values()}
        found[column] = measure(sum_six_areas(of_column))
    alike = {key: first[key] for key in ("measured", "votes", "augmented") if key in first}
    values = alike | {"areas": sorted(areas), "classes": first["classes"]}
    values["columns"] = {column: measure_values(one) for column, one in found.items()}
    return Report(values, f"S3DIS, 6-fold\n{quality_table(found, first['classes'])}")


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or not {"test_area", "columns"} <= values.keys():
            raise UserError("no areas")
    except ValueError:
        raise UserError(
            f"{path}: not a result on S3DIS; write one with evaluate.py --output."
        ) from None
    return values


def _confusion(result: dict[str, Any], column: str) -> Array:
    return np.array(result["columns"][column]["confusion"], np.int64)
