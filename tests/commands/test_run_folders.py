"""Where a run lies if no --workdir says so, and with which preset it goes on if none is named."""

import pathlib

import pytest
from scan_folders import COORDS, write_folder, write_scan, write_tags

from mprm_jax.commands import train, train_cls
from mprm_jax.presets import PRESETS
from mprm_jax.training.signals import StoppedError
from mprm_jax.training.workdir import open_workdir

pytestmark = pytest.mark.usefixtures("same_process_afterwards")


@pytest.fixture
def begin(script, tmp_path, monkeypatch):
    """Begins or goes on with a run on a folder of scans; returns its preset and its folder."""
    runs, starts = [], []

    def note(store, config, workdir, num_devices, start_from):
        data = {"stage": "cls", "data": store.manifest.name, "classes": [*store.classes]}
        data["fingerprint"] = store.fingerprint("train")
        open_workdir(workdir, config, data, store.path)
        runs.append((config.preset, str(workdir)))
        starts.append(start_from and str(start_from))
        raise StoppedError("noted")

    monkeypatch.setattr(train_cls, "train_classifier", note)

    def begin(scans, *flags):
        if not (tmp_path / scans).exists():
            write_folder(tmp_path / scans)
            # Of each folder another, so that they are not copies of the same data.
            size = 1 + len(list(tmp_path.glob("*/scans")))
            write_scan(tmp_path / scans / "office.npz", COORDS * size)
        ended = script(train.main, "--stage", "cls", "--data", f"folder:{scans}", *flags)
        assert ended.status == 0, ended.err
        return runs[-1]

    begin.starts = starts
    return begin


@pytest.fixture
def begun_before(begin, tmp_path):
    """A run on `a/scans` as versions began it that called every folder alike and took `paper`."""
    _, workdir = begin("a/scans", "--preset", "paper")
    (tmp_path / workdir).rename(tmp_path / "runs" / "cls-folder-paper")


def test_a_folder_of_scans_is_called_by_its_name(begin):
    assert begin("a/scans") == ("quick", "runs/cls-scans-quick")


def test_folders_of_one_name_have_runs_of_their_own_that_go_on(begin):
    _, first = begin("a/scans")
    _, second = begin("b/scans")
    assert first == "runs/cls-scans-quick" and second.startswith("runs/cls-scans-")
    assert first != second
    assert [begin("b/scans")[1], begin("a/scans")[1]] == [second, first]


def test_a_second_run_goes_on_though_the_first_is_gone(begin, tmp_path):
    _, first = begin("a/scans")
    _, second = begin("b/scans")
    (tmp_path / first).rename(tmp_path / "elsewhere")
    assert begin("b/scans")[1] == second


def test_the_place_of_a_run_depends_on_its_data_not_on_its_settings(script, begin, tmp_path):
    """So that who forgets a setting hears of it."""
    begin("a/scans")
    smaller = ("--set", "data.voxel_size=0.1")
    ended = script(train.main, "--stage", "cls", "--data", "folder:a/scans", *smaller)
    assert ended.error.startswith("runs/cls-scans-quick/")


def test_a_run_begun_by_default_goes_on_with_the_former_preset(begin, begun_before):
    assert begin("a/scans") == ("paper", "runs/cls-folder-paper")
    assert begin("a/scans", "--preset", "paper") == ("paper", "runs/cls-folder-paper")
    assert begin("a/scans", "--preset", "quick") == ("quick", "runs/cls-scans-quick")


def test_other_scans_do_not_go_on_with_a_run_of_the_former_preset(begin, begun_before):
    assert begin("b/scans") == ("quick", "runs/cls-scans-quick")


def test_a_named_work_directory_goes_on_with_the_former_preset(begin):
    begin("a/scans", "--preset", "paper", "--workdir", "mine")
    assert begin("a/scans", "--workdir", "mine") == ("paper", "mine")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_of_a_folder_that_was_called_folder_goes_on(begin, tmp_path, preset):
    _, workdir = begin("a/scans", "--preset", preset)
    former = pathlib.Path("runs") / f"cls-folder-{preset}"
    (tmp_path / workdir).rename(tmp_path / former)
    assert begin("a/scans", "--preset", preset) == (preset, str(former))


def test_each_round_of_tags_has_a_run_that_starts_from_the_one_before(begin, tmp_path):
    first = begin("scans")[1]
    assert begin("scans")[1] == first and begin.starts == [None, None]
    write_tags(tmp_path / "scans", "scene,wall,floor", "office,1,1")
    second = begin("scans")[1]
    assert second == f"{first}-round2" and begin.starts[-1] == first
    assert begin("scans")[1] == second and begin.starts[-1] == first
    clicks = "scene,x,y,z,class,answer\noffice,0,0,0,floor,yes\n"
    (tmp_path / "scans" / "clicks.csv").write_text(clicks)
    assert begin("scans")[1] == f"{first}-round3" and begin.starts[-1] == second
    assert begin("scans", "--start-from", "anew")[1] == f"{first}-round3"
    assert begin.starts[-1] is None
    write_tags(tmp_path / "scans", "scene,wall,floor", "office,1,0")
    (tmp_path / "scans" / "clicks.csv").unlink()
    assert begin("scans")[1] == first


def test_a_run_with_a_place_of_its_own_starts_anew_or_from_what_it_is_told(begin, tmp_path):
    first = begin("scans")[1]
    write_tags(tmp_path / "scans", "scene,wall,floor", "office,1,1")
    assert begin("scans", "--workdir", "mine")[1] == "mine" and begin.starts[-1] is None
    begin("scans", "--workdir", "mine", "--start-from", first)
    assert begin.starts[-1] == first
