"""Checkpoints: which are kept, what is restored, and what happens to damaged ones."""

import contextlib
import errno
import gc
import resource
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from mprm_jax.errors import UserError
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


def best_of(directory):
    with Checkpoints(directory, read_only=True) as checkpoints:
        return checkpoints.restore(state(0), "best").notes["epoch"]


def test_the_best_one_is_kept_when_the_run_is_resumed(tmp_path):
    save_all(tmp_path / "c", (1, 0.2), (2, 0.9))
    save_all(tmp_path / "c", (3, None), (4, 0.5))
    save_all(tmp_path / "c", (5, 0.1))
    assert steps(tmp_path / "c") == [2, 4, 5] and best_of(tmp_path / "c") == 2


@pytest.mark.parametrize("resumed", [False, True])
def test_a_score_that_comes_after_the_save_counts(tmp_path, resumed):
    save_all(tmp_path / "c", (1, 0.2), (2, None), *([] if resumed else [(2, 0.9)]))
    if resumed:
        save_all(tmp_path / "c", (2, 0.9))
    assert best_of(tmp_path / "c") == 2
    save_all(tmp_path / "c", (3, 0.5), (4, 0.6), (5, 0.7))
    assert steps(tmp_path / "c") == [2, 4, 5] and best_of(tmp_path / "c") == 2


def test_a_save_without_a_score_takes_none_away(tmp_path):
    save_all(tmp_path / "c", (1, 0.9), (1, None), (2, 0.5))
    assert best_of(tmp_path / "c") == 1


def test_without_scores_the_last_is_the_best(tmp_path):
    save_all(tmp_path / "c", (1, None), (2, float("nan")), (3, None))
    assert best_of(tmp_path / "c") == 3


def test_a_score_that_is_no_number_is_not_the_best(tmp_path):
    save_all(tmp_path / "c", (1, float("nan")), (2, 0.1), (3, float("nan")))
    assert best_of(tmp_path / "c") == 2


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


def files_of(directory, step):
    return [path for path in (directory / str(step)).rglob("*") if path.is_file()]


def break_file(path, how):
    """Cuts a file to half, changes a bit in its middle, or deletes it."""
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "nested":
        path.write_bytes(b"[" * 200_000)
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 4
        path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut", "flipped", "gone", "nested"])
def test_no_broken_file_changes_what_is_restored(tmp_path, how):
    """A file does not matter, or it is called damaged and the checkpoint before is taken."""
    save_all(tmp_path / "c", (1, None), (2, None))
    for place in [path.relative_to(tmp_path / "c") for path in files_of(tmp_path / "c", 2)]:
        copy = shutil.copytree(tmp_path / "c", tmp_path / "copy")
        break_file(copy / place, how)
        if how == "nested" and place.name == "_CHECKPOINT_METADATA":
            with pytest.raises(UserError, match="copy: a file of it is nested beyond all reason"):
                Checkpoints(copy)
            shutil.rmtree(copy)
            continue
        with Checkpoints(copy) as checkpoints:
            found = checkpoints.restore_latest(state(0))
        step = found.notes["epoch"]
        np.testing.assert_array_equal(found.state["weights"], state(step)["weights"], str(place))
        assert (tmp_path / "damaged").exists() == (step == 1)
        shutil.rmtree(tmp_path / "damaged", ignore_errors=True)
        shutil.rmtree(copy)


@pytest.mark.parametrize("item", ["notes", "state"])
def test_a_lost_folder_is_damage(tmp_path, item, caplog):
    save_all(tmp_path / "c", (1, None), (2, None))
    shutil.rmtree(tmp_path / "c" / "2" / item)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore_latest(state(0)).notes == {"epoch": 1}
    assert f"2 is damaged ({item}: " in caplog.text


OTHER_NETWORKS = [
    (
        lambda x: {"kernel": x["weights"], "step": x["step"]},
        r"kernel: not there, \(64, 64\) in this program; weights: \(64, 64\) there, not in this",
    ),
    (lambda x: x | {"bias": jnp.zeros(3)}, r"\(bias: not there, \(3,\) in this program\)"),
    (lambda x: {"step": x["step"]}, r"\(weights: \(64, 64\) there, not in this program\)"),
    (
        lambda x: x | {"weights": jnp.zeros((64, 32))},
        r"\(weights: \(64, 64\) there, \(64, 32\) in this program\)",
    ),
]


@pytest.mark.parametrize(("change", "named"), OTHER_NETWORKS)
def test_another_network_is_named_and_nothing_moves(tmp_path, change, named):
    save_all(tmp_path / "c", (1, None), (2, None))
    before = {path: path.read_bytes() for path in files_of(tmp_path, "c")}
    other = pytest.raises(ValueError, match=f"c/2: holds another network .*{named}")
    with Checkpoints(tmp_path / "c") as checkpoints, other as error:
        checkpoints.restore_latest(change(state(0)))
    assert "damaged" not in str(error.value) and "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in files_of(tmp_path, "c")} == before


def test_many_differing_parameters_are_counted(tmp_path):
    many = {"params": {f"layer{i}": jnp.zeros(2) for i in range(9)}}
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, {"opt_state": many["params"], "params": {}}, {}, None)
    other = pytest.raises(ValueError, match=r"\(params/layer0: not there.*; and 15 more\)")
    with Checkpoints(tmp_path / "c") as checkpoints, other:
        checkpoints.restore_latest(many)


def test_what_a_reader_does_not_want_need_not_fit(tmp_path):
    save_all(tmp_path / "c", (1, None))
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints:
        found = checkpoints.restore({"weights": state(0)["weights"], "step": ()}, "last")
    np.testing.assert_array_equal(found.state["weights"], state(1)["weights"])


def test_an_error_that_no_disk_made_shows_itself(tmp_path):
    with pytest.raises(TypeError, match="not JSON"), Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, state(1), {"notes": object()}, None)


def test_an_error_in_reading_that_is_no_damage_shows_itself(tmp_path, monkeypatch):
    save_all(tmp_path / "c", (1, None), (2, None))

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "weights")

    monkeypatch.setattr("orbax.checkpoint.PyTreeCheckpointer.restore", refuse)
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(PermissionError):
        checkpoints.restore_latest(state(0))
    assert steps(tmp_path / "c") == [1, 2] and not (tmp_path / "damaged").exists()


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    save_all(tmp_path / "c", (1, None))
    damage(tmp_path / "c", 1)
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(ValueError, match="--workdir"):
        checkpoints.restore_latest(state(0))


def large_state(value):
    """A megabyte that does not compress."""
    return {"weights": jnp.asarray(np.random.default_rng(value).random(2**18, np.float32))}


@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_damaged_weights_are_called_damaged(tmp_path, how):
    with Checkpoints(tmp_path / "c") as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, large_state(step), {}, None)
    largest = max(files_of(tmp_path / "c", 2), key=lambda path: path.stat().st_size)
    assert largest.stat().st_size > 100_000
    break_file(largest, how)
    damaged = pytest.raises(ValueError, match=r"c/2 is damaged \(state: .*choose another .* of 1\.")
    with Checkpoints(tmp_path / "c", read_only=True) as checkpoints, damaged as error:
        checkpoints.restore(large_state(0), "last")
    assert "\n" not in str(error.value) and steps(tmp_path / "c") == [1, 2]


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
