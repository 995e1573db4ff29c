"""The start of a run whose bucket is chosen to fit a memory."""

import jax
import pytest
import runs
from small_stage import SMALL_STAGE

from mprm_jax.batches import shapes
from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.config import from_json
from mprm_jax.store.scenes import StoredClouds
from mprm_jax.training import static_sizes
from mprm_jax.training.parallel import make_mesh
from mprm_jax.training.start import settings_of_run, start_run
from mprm_jax.training.static_sizes import whole_balls

pytestmark = pytest.mark.slow

ENOUGH = 0.002  # GB


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


@pytest.fixture
def start(store, tmp_path):
    """Starts a run in the same work directory each time."""

    def start(gigabytes, num_devices=1, name="cls", builder="host"):
        settings = (f"pyramid.memory_gb={gigabytes}", f"pyramid.builder={builder}")
        # Balls larger than the bucket that the settings name, and more of them than fit the memory.
        settings += ("pyramid.bucket_points=16", "data.epoch_subclouds=4000")
        settings += (f"pyramid.buckets_per_step={num_devices}",)
        config = runs.small_config(*settings, stage=name)
        mesh = make_mesh(jax.devices()[:num_devices])
        config = settings_of_run(tmp_path / "run", name, config, num_devices)
        balls = balls_of(store, name, whole_balls(config))
        return start_run(name, SMALL_STAGE, store, balls, config, mesh, tmp_path / "run")

    return start


def balls_of(store, name, config):
    if name == "cls":
        return TaggedBalls(store, "train", config)
    return CoveringBalls(StoredClouds(store, "train"), len(store.classes), config, 1)


@pytest.mark.parametrize(
    ("num_devices", "name", "builder"),
    [
        (1, "cls", "host"),
        (4, "seg", "host"),
        pytest.param(2, "cls", "device", marks=pytest.mark.slow),
    ],
)
def test_the_step_fits_the_memory_and_nothing_is_thinned(start, store, num_devices, name, builder):
    config = start(ENOUGH, num_devices, name, builder)
    balls = balls_of(store, name, config)
    assert balls.num_thinned == 0 and config.pyramid.bucket_points >= 2048
    mesh = make_mesh(jax.devices()[:num_devices])
    needed = static_sizes._peak_bytes(SMALL_STAGE, balls, mesh, config)
    assert 0.5 * ENOUGH < needed / 1e9 <= ENOUGH


def test_a_resumed_run_keeps_its_bucket(start, tmp_path, monkeypatch):
    config = start(ENOUGH)
    assert from_json((tmp_path / "run" / "config.json").read_text()) == config
    # On another device or with another compiler, another bucket would fit.
    monkeypatch.setattr(static_sizes, "fit_memory", lambda *_, **__: pytest.fail("chosen again"))
    # From another version of the code, other lists would be found.
    monkeypatch.setattr(shapes, "_sample", lambda *_: pytest.fail("calibrated again"))
    assert start(ENOUGH) == config


def test_another_memory_is_another_run(start):
    start(ENOUGH)
    with pytest.raises(ValueError, match=r"pyramid.memory_gb: 0.002 there, 0.004 now\); use the"):
        start(0.004)


def test_too_little_memory_is_one_line_and_leaves_nothing(start, tmp_path):
    with pytest.raises(ValueError, match=r"pyramid.memory_gb is 1e-06, but the largest") as error:
        start(1e-6)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
