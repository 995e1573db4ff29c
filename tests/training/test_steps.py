"""One training step: the same on any number of devices, and better after a few of them."""

import jax
import numpy as np
import pytest
import runs

from mprm_jax.batches.covering import CoveringBalls
from mprm_jax.batches.loader import Loader
from mprm_jax.batches.shapes import calibrate, calibrate_candidates
from mprm_jax.batches.tagged_balls import TaggedBalls
from mprm_jax.store.scenes import StoredClouds
from mprm_jax.store.targets import TrueLabels
from mprm_jax.training.forecast import counted_compiles
from mprm_jax.training.optimizer import make_optimizer
from mprm_jax.training.parallel import replicate, shard_batch, step_mesh
from mprm_jax.training.stages import cls_stage, seg_stage
from mprm_jax.training.steps import STEP_NAME, init_state, make_train_step

pytestmark = pytest.mark.slow


STAGES = {"cls": cls_stage, "seg": seg_stage}


def tagged_balls(store, config):
    return TaggedBalls(store, "train", config)


def labeled_balls(store, config):
    clouds = StoredClouds(store, "train")
    return CoveringBalls(clouds, len(store.classes), config, 2, TrueLabels(store, "train"))


BALLS = {"cls": tagged_balls, "seg": labeled_balls}


class Trainer:
    """A small run by hand, on some of the devices."""

    def __init__(self, name, store, num_devices, *settings):
        config = runs.small_config(*settings, stage=name)
        balls = BALLS[name](store, config)
        config = calibrate_candidates(calibrate(config, balls), balls)
        self.loader = Loader(balls, config)
        stage = STAGES[name](config, len(store.classes))
        optimizer = make_optimizer(config, steps_per_epoch=4)
        self.mesh = step_mesh(jax.devices()[:num_devices], config.pyramid.buckets_per_step)
        example = self.loader.example()
        averages = config.optim.ema > 0
        fresh = init_state(stage, optimizer, example, seed=0, averages=averages)
        self.state = replicate(fresh, self.mesh)
        self.step_fn = make_train_step(stage, optimizer, self.mesh, config)

        self.compiles = []

    def step(self, members):
        (loaded,) = self.loader.load([members], epoch=0)
        with counted_compiles(STEP_NAME) as compiles:
            self.state, metrics = self.step_fn(self.state, shard_batch(loaded.batch, self.mesh))
        self.compiles += compiles
        return {name: float(value) for name, value in metrics.items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return runs.small_store(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("cls", ["pyramid.builder=host"]),
        ("seg", ["pyramid.builder=host", "seg.lovasz=1", "optim.ema=0.5", "augment.mix=1"]),
        ("cls", ["pyramid.builder=device"]),
    ],
)
def test_any_number_of_devices_gives_the_same_steps(store, name, settings):
    """Also what is drawn at random: dropout is on."""
    fixed = ("model.dropout=0.5", "pyramid.max_clouds=4", "pyramid.buckets_per_step=4")
    fixed += ("model.deformable=True", "model.reach_neighbors=8")
    # Plain descent: Adam turns the rounding of a gradient near zero into a step of full length.
    fixed += ("optim.optimizer=sgd", "optim.learning_rate=0.05", "optim.momentum=0.9")
    trainers = {count: Trainer(name, store, count, *fixed, *settings) for count in (1, 4)}
    for members in ([[0, 5], [9], [14], []], [[2], [3, 7], [], [1]]):
        found = {count: trainer.step(members) for count, trainer in trainers.items()}
        assert all(0 < value < 1 for key, value in found[1].items() if key.startswith("share/"))
        for metrics in found.values():
            assert metrics == pytest.approx(found[1], rel=1e-5, abs=1e-6)
    # Sums over hundreds of rows in another order, through two steps: 1e-4 of a weight of order 1.
    for trainer in trainers.values():
        pairs = zip(jax.tree.leaves(trainers[1].state), jax.tree.leaves(trainer.state), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
        assert len(trainer.compiles) == 1


@pytest.mark.parametrize("name", STAGES)
def test_the_loss_falls_on_one_room(store, name):
    fixed = ("optim.warmup_steps=0", "model.dropout=0.0", "optim.schedule=exponential")
    trainer = Trainer(name, store, 1, *fixed, "pyramid.buckets_per_step=1")
    losses = [trainer.step([[0, 1]])["loss"] for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]
