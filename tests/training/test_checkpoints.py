"""Checkpoints: which are kept, what is restored, and what happens to damaged ones."""

import jax.numpy as jnp
import numpy as np
import pytest

from mprm_jax.training.checkpoints import Checkpoints


def state(value):
    return {"weights": jnp.full((64, 64), value, jnp.float32), "step": jnp.int32(value)}


def steps(directory):
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def save_all(directory, *entries):
    with Checkpoints(directory, keep_last=2) as checkpoints:
        for step, score in entries:
            checkpoints.save(step, state(step), {"epoch": step}, score)


def damage(directory, step):
    """Cuts every array file of a checkpoint to half."""
    files = [p for p in (directory / str(step) / "state").rglob("*") if p.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_restores_the_newest_state_and_its_notes(tmp_path):
    save_all(tmp_path / "c", (1, None), (2, None))
    with Checkpoints(tmp_path / "c") as checkpoints:
        found = checkpoints.restore_latest(state(0))
    np.testing.assert_array_equal(found.state["weights"], state(2)["weights"])
    assert found.notes == {"epoch": 2}


def test_an_empty_directory_restores_nothing(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore_latest(state(0)) is None


def test_the_last_ones_and_the_best_one_are_kept(tmp_path):
    save_all(tmp_path / "c", (1, 0.2), (2, 0.9), (3, None), (4, 0.5), (5, 0.1))
    assert steps(tmp_path / "c") == [2, 4, 5]


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path, caplog):
    save_all(tmp_path / "c", (1, None), (2, None))
    damage(tmp_path / "c", 2)
    with Checkpoints(tmp_path / "c") as checkpoints:
        found = checkpoints.restore_latest(state(0))
        checkpoints.save(2, state(7), {"epoch": 7}, None)
    assert found.notes == {"epoch": 1}
    assert "damaged" in caplog.text and "2" in caplog.text
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore_latest(state(0)).notes == {"epoch": 7}


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    save_all(tmp_path / "c", (1, None))
    damage(tmp_path / "c", 1)
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(ValueError, match="--workdir"):
        checkpoints.restore_latest(state(0))


def test_another_shape_is_not_restored(tmp_path):
    save_all(tmp_path / "c", (1, None))
    other = {"weights": jnp.zeros((3, 3)), "step": jnp.int32(0)}
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(ValueError, match="c"):
        checkpoints.restore_latest(other)
