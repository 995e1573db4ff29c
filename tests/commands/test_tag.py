import json
import sys
import threading
import urllib.request

import numpy as np
import pytest
from scan_folders import write_scan
from served import write_rooms

from mprm_jax.commands import tag
from mprm_jax.commands.main import main
from mprm_jax.one_writer import only_writer
from mprm_jax.scans.scan_files import QUESTIONS_FILE
from mprm_jax.writing import FailedWriteError

pytestmark = pytest.mark.usefixtures("same_process_afterwards")


@pytest.fixture
def command(monkeypatch):
    """Runs `mprm tag` with flags; gives its exit status."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["mprm", "tag", *map(str, flags)])
        try:
            main()
        except SystemExit as stop:
            return stop.code
        return 0

    return run


@pytest.fixture
def visited(monkeypatch):
    """What the page says at its start, instead of serving it until Ctrl-C."""
    states = []

    def serve(server, *, open_browser):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with urllib.request.urlopen(f"{server.address}api/state") as answer:
            states.append(json.load(answer))
        server.shutdown()
        thread.join()

    monkeypatch.setattr(tag, "_serve", serve)
    return states


def test_a_folder_is_opened_and_let_go(command, visited, tmp_path):
    write_rooms(tmp_path)
    assert command("--data", f"folder:{tmp_path}", "--no-browser") == 0
    assert [scan["name"] for scan in visited[0]["scans"]] == ["hall", "office"]
    with only_writer(tmp_path):
        pass


def test_a_folder_needs_neither_tags_nor_classes(command, visited, tmp_path):
    write_rooms(tmp_path, classes=())
    assert command("--data", f"folder:{tmp_path}") == 0
    assert visited[0]["classes"] == []


def test_a_folder_that_is_being_tagged_is_refused(command, tmp_path, capsys):
    write_rooms(tmp_path)
    with only_writer(tmp_path):
        assert command("--data", f"folder:{tmp_path}") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "is being written by another process" in last
    assert "end that mprm tag first" in last


def test_a_broken_table_is_one_line(command, tmp_path, capsys):
    write_rooms(tmp_path)
    (tmp_path / "tags.csv").write_text("scene,tags\noffice,lamp\n")
    assert command("--data", f"folder:{tmp_path}") == 2
    assert "line 2 names class 'lamp'" in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_cannot_be_written_is_refused(command, tmp_path, capsys, monkeypatch):
    write_rooms(tmp_path)

    def refuse(folder, remedy):
        raise FailedWriteError(f"{folder}: cannot be written (Permission denied); choose another.")

    monkeypatch.setattr(tag, "only_writer", refuse)
    assert command("--data", f"folder:{tmp_path}") == 2
    assert "Permission denied" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("--balls", "0"), "--balls 0: give 1 or more"),
        (("--max-points", "-1"), "--max-points -1: give 1 or more"),
        (("--json",), "only --report"),
        (("--balls", "3", "--scenes"), "choose one"),
        (("--review", "a", "--ask", "b"), "choose one"),
        (("--review", "nowhere"), "mprm export --workdir nowhere"),
        (("--data", "folder:nowhere"), "no folder nowhere"),
        (("--data", "nothing"), "unknown data set"),
    ],
)
def test_wrong_flags_are_one_line(command, capsys, flags, text):
    assert command(*flags) == 2
    assert text in capsys.readouterr().err.splitlines()[-1]


def test_the_report_opens_nothing(command, tmp_path, capsys):
    write_rooms(tmp_path)
    (tmp_path / "tags.csv").write_text("scene,tags,seconds\noffice,wall;floor,90\n")
    assert command("--data", f"folder:{tmp_path}", "--report", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scenes"]["office"]["minutes"] == 1.5
    assert command("--data", f"folder:{tmp_path}", "--report") == 0
    assert "office" in capsys.readouterr().out


def test_few_balls_cover_a_scan_and_the_most_telling_come_first(command, visited, tmp_path):
    write_rooms(tmp_path)
    flags = ("--balls", "3", "--next", "helpful")
    assert command("--data", f"folder:{tmp_path}", *flags) == 0


@pytest.fixture
def reviewed(tmp_path, monkeypatch):
    """A folder of two tagged scans, prepared, and a run with labels of them."""
    from mined_exports import mined_export

    from mprm_jax.presets import PRESETS
    from mprm_jax.store.datasets import ensure_store

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("hall", "office"):
        coords = rng.uniform(0, 1, (3000, 3)) * (3, 3, 2)
        labels = (coords[:, 0] > 1.5).astype(int)
        coords[:, 2] *= labels
        write_scan(tmp_path / "scans" / f"{name}.npz", coords=coords, label=labels)
    (tmp_path / "scans" / "classes.txt").write_text("floor\nwall\n")
    (tmp_path / "scans" / "tags.csv").write_text("scene,tags\noffice,floor;wall\nhall,floor;wall\n")
    store = ensure_store("folder:scans", PRESETS["tiny"]("cls"), workers=1)
    mined_export(tmp_path / "run" / "pseudo_labels", store)
    return tmp_path


def test_a_run_knows_its_data(command, visited, reviewed):
    assert command("--review", "run") == 0
    state = visited[0]
    assert (state["mode"], state["data"]) == ("review", "folder:scans")
    assert any(scan["findings"] for scan in state["scans"])


def test_questions_are_a_file_too(command, visited, reviewed):
    assert command("--ask", "run", "--count", "2") == 0
    lines = (reviewed / "scans" / QUESTIONS_FILE).read_text().splitlines()
    assert visited[0]["mode"] == "ask"
    asked = sum(scan["questions"] for scan in visited[0]["scans"])
    assert len(lines) - 1 == asked
    assert 0 < asked <= 4


def test_before_training_the_store_asks_but_has_nothing_to_review(
    command, visited, reviewed, capsys
):
    (store,) = (reviewed / "prepared").iterdir()
    assert command("--ask", store, "--count", "2") == 0
    assert command("--review", store) == 2
    assert "no labels yet" in capsys.readouterr().err.splitlines()[-1]


def test_a_review_of_what_cannot_be_written_is_to_look_at(command, visited, reviewed, monkeypatch):
    def refuse(folder, remedy):
        raise FailedWriteError(f"{folder}: cannot be written (Permission denied); choose another.")

    monkeypatch.setattr(tag, "only_writer", refuse)
    assert command("--review", "run") == 0
    assert visited[0]["readonly"]
    assert "Permission denied" in visited[0]["notes"][0]


def test_other_classes_than_those_of_the_run_are_refused(command, reviewed, capsys):
    (reviewed / "scans" / "classes.txt").write_text("wall\nfloor\n")
    assert command("--review", "run") == 2
    assert "are not the first of those" in capsys.readouterr().err.splitlines()[-1]


def test_one_file_to_send(command, reviewed):
    assert command("--review", "run", "--html", "page.html") == 0
    assert "window.EMBEDDED" in (reviewed / "page.html").read_text(encoding="utf-8")
