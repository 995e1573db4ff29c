"""The plan of a report: every command counted, and times that follow from what is known."""

import dataclasses
import json
import pathlib

import pytest
from prepared import make_store

from mprm_jax.commands.jobs import DURATIONS_FILE
from mprm_jax.commands.reproduction.jobs import GROUPS, Setting, make_jobs
from mprm_jax.commands.reproduction.ladder import LONGER, ladder_jobs
from mprm_jax.commands.reproduction.plan import kind_of, plan, plan_text, training_length
from mprm_jax.presets import tiny

CONFIGS = {stage: tiny(stage) for stage in ("cls", "seg")}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


@pytest.fixture
def jobs(tmp_path):
    setting = Setting(tmp_path, "rooms:tiny", "tiny", pathlib.Path("prepared/x"), None, ())
    return make_jobs(setting, [0], GROUPS) + ladder_jobs(setting, 0, epochs=3)


def by_kind(*arguments):
    return {found.kind: found for found in plan(*arguments)}


def test_every_job_is_counted_once(tmp_path, store, jobs):
    found = by_kind(tmp_path, store, CONFIGS, jobs, None)
    assert sum(kind.count for kind in found.values()) == len(jobs)
    assert all(kind.left == kind.count and kind.seconds is None for kind in found.values())
    longer = found[f"train seg, {LONGER} times as long"]
    assert longer.cost.points == LONGER * found["train seg"].cost.points > 0
    assert "blank nothing says" in plan_text([*found.values()])


def test_hours_follow_from_a_speed(tmp_path, store, jobs):
    slow, fast = (by_kind(tmp_path, store, CONFIGS, jobs, speed) for speed in (1e3, 1e6))
    for kind in ("train cls", "train seg", "rounds, networks: 2", "export", "evaluate"):
        assert slow[kind].seconds == pytest.approx(1000 * fast[kind].seconds)
        assert fast[kind].seconds > 0
    assert slow["refine"].seconds is None


def test_hours_of_a_kind_are_those_of_its_commands_that_are_done(tmp_path, store, jobs):
    done = next(job for job in jobs if kind_of(job) == "train seg")
    done.result.parent.mkdir(parents=True)
    done.result.write_text("{}", encoding="utf-8")
    line = {"result": done.result.relative_to(tmp_path).as_posix(), "seconds": 60.0}
    (tmp_path / DURATIONS_FILE).write_text(json.dumps(line) + "\n", encoding="utf-8")
    found = by_kind(tmp_path, store, CONFIGS, jobs, None)
    assert found["train seg"].left == found["train seg"].count - 1
    assert found["train seg"].seconds == 60.0
    # Kinds of which none is done yet go as fast as the trainings that are.
    assert found[f"train seg, {LONGER} times as long"].seconds == pytest.approx(60.0 * LONGER)
    assert found["refine"].seconds is None


def test_few_points_are_learned_in_more_epochs():
    config = CONFIGS["seg"]
    optim = dataclasses.replace(config.optim, epochs=2, min_steps=100)
    config = dataclasses.replace(config, optim=optim)
    a_step = config.pyramid.bucket_points * config.pyramid.buckets_per_step
    few, many = (training_length(config, n * a_step, 10) for n in (1, 1000))
    assert 100 <= few.steps < 110
    assert many.points == 2 * 1000 * a_step
