"""Checkpoints: which are kept, what is restored, and what happens to damaged ones."""

import contextlib
import gc
import resource

import jax.numpy as jnp
import numpy as np
import pytest

from mprm_jax.training.checkpoints import Checkpoints

# A read that fails leaves coroutines of Orbax behind, which complain when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def collected():
    """Collects what a test left behind before the next test of another file starts."""
    yield
    gc.collect()


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


def large_state(value):
    """A megabyte that does not compress."""
    return {"weights": jnp.asarray(np.random.default_rng(value).random(2**18, np.float32))}


@contextlib.contextmanager
def no_space_for_large_files():
    """Writing more than 100 kB to a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def assert_only_the_first_is_left(directory):
    assert [path.name for path in directory.iterdir()] == ["1"]
    with Checkpoints(directory) as checkpoints:
        found = checkpoints.restore_latest(large_state(0))
    np.testing.assert_array_equal(found.state["weights"], large_state(1)["weights"])


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(tmp_path):
    directory = tmp_path / "c"
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, large_state(1), {}, None)
    failure = pytest.raises(OSError)
    with no_space_for_large_files(), failure as error, Checkpoints(directory) as checkpoints:
        checkpoints.save(2, large_state(2), {}, None)
    assert str(error.value).startswith(f"{directory}: a checkpoint cannot be written (File too")
    assert "\n" not in str(error.value)
    assert_only_the_first_is_left(directory)


def test_a_save_that_failed_in_the_background_is_raised_by_the_next(tmp_path):
    directory = tmp_path / "c"
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, large_state(1), {}, None)
        checkpoints.save(1, large_state(1), {}, None)
    with Checkpoints(directory) as checkpoints, no_space_for_large_files():
        checkpoints.save(2, large_state(2), {}, None)
        with pytest.raises(OSError, match="continues from the one before"):
            checkpoints.save(3, large_state(3), {}, None)
    assert_only_the_first_is_left(directory)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="c: a checkpoint cannot be written"):
        Checkpoints(tmp_path / "file" / "c")


def test_notes_are_checked_before_the_arrays_are_read(tmp_path):
    save_all(tmp_path / "c", (1, None))

    def check(notes):
        raise ValueError(f"epoch {notes['epoch']} of another run")

    other = {"weights": jnp.zeros((3, 3)), "step": jnp.int32(0)}
    other_run = pytest.raises(ValueError, match="epoch 1 of another run")
    with Checkpoints(tmp_path / "c") as checkpoints, other_run:
        checkpoints.restore_latest(other, check)
    assert steps(tmp_path / "c") == [1]


@pytest.mark.parametrize("read_only", [True, False])
def test_an_error_removes_what_a_save_began_but_not_when_reading(tmp_path, read_only):
    save_all(tmp_path / "c", (1, None))
    with (
        pytest.raises(OSError, match="disk"),
        Checkpoints(tmp_path / "c", read_only=read_only),
    ):
        begun = tmp_path / "c" / "2.orbax-checkpoint-tmp"
        begun.mkdir()
        raise OSError("disk")
    assert begun.exists() == read_only
