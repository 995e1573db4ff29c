"""The benchmark of the training step, on tiny clouds; no time is asserted."""

import argparse

import jax
import machine_rates
import numpy as np
import pytest
import step
import step_clouds
from step_cases import add_data_flags, read_spec, spec_of

from mprm_jax.training.parallel import make_mesh


def tiny_spec(*flags):
    parser = argparse.ArgumentParser()
    add_data_flags(parser)
    args = parser.parse_args(["--preset", "tiny", "--rooms", "tiny", "--scenes", "1", *flags])
    return spec_of(args, "model.paths=('plain',)", "model.first_features=4")


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["host", "device"])
def test_a_case_has_all_its_numbers(builder):
    row = step.measure(tiny_spec("--set", f"pyramid.builder={builder}"), repeats=1)
    assert row["builder"] == builder and row["clouds"] > 0
    positive = ("step_ms", "points_per_s", "ms_per_100k_points", "program_mb", "gigabytes")
    assert all(row[name] > 0 for name in (*positive, "gigaflop", "roofline_share"))
    assert np.isfinite(row["loss"]) and 0 <= row["padding_share"] < 1


def test_a_cloud_of_the_user_is_read(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "scan.npz"
    np.savez(path, points=rng.random((500, 3)), colors=rng.random((500, 3)))
    cloud = step_clouds.read_clouds(path, "tiny", 1, voxel_size=0.2).cloud(0)
    assert 100 < len(cloud.coords) <= 125 and cloud.colors.dtype == np.uint8
    np.savez(path, points=rng.random((500, 3)))
    with pytest.raises(ValueError, match="lacks colors"):
        step_clouds.read_clouds(path, "tiny", 1, voxel_size=0.2)


def test_a_spec_survives_json():
    spec = tiny_spec("--points-per-cloud", "100")
    assert read_spec(step.json.dumps(spec._asdict())) == spec


def test_rates_are_positive(monkeypatch):
    monkeypatch.setattr(machine_rates, "_LARGEST", machine_rates._SMALLEST)
    rates = machine_rates.machine_rates(make_mesh(jax.devices()[:1]), "float32")
    assert rates.copy > 0 and rates.matmul > 0
