import errno
import os
import pathlib
import threading

import numpy as np
import pytest
from scan_folders import write_folder, write_scan, write_tags

from mprm_jax.errors import UserError
from mprm_jax.evidence.clicks import read_clicks
from mprm_jax.evidence.folder import Folder
from mprm_jax.evidence.tags import read_tags
from mprm_jax.tagging import tag_files
from mprm_jax.tagging.tag_files import (
    ChangedError,
    Said,
    TagFiles,
    click_ids,
    finish_class,
)
from mprm_jax.writing import FailedWriteError

SCENES = {"office": "office.npz", "floor1_hall": "floor1/hall.npz"}
BALL = (1.0, 2.0, 0.5, 2.0)
OTHER = (3.0, 2.0, 0.5, 2.0)
WALL = Said(frozenset({"wall"}), False, 3.0)
BOTH = Said(frozenset({"wall", "floor"}), False, 4.0)
NOTHING = Said(frozenset(), False, 2.0)
NOT_SURE = Said(frozenset(), True, 5.0)
IN_COLUMNS = "scene,x,y,z,radius,wall,floor"
LISTED = "scene,x,y,z,radius,tags"


def open_files(folder, **settings):
    return TagFiles(folder, SCENES, **settings)


def write_classes(folder, *lines):
    (folder / "classes.txt").write_text("".join(f"{line}\n" for line in lines))


def tags_text(folder):
    return (folder / "tags.csv").read_bytes().decode()


def said_of(files, scene="office", ball=BALL):
    found = files.read().of_ball(scene, ball, files.tolerance)
    return found and found[1]


@pytest.fixture(params=["new", "columns", "listed"])
def files(request, tmp_path):
    """A folder without `tags.csv`, and with one of either form."""
    if request.param != "columns":
        write_classes(tmp_path, "wall", "floor")
    if request.param == "columns":
        write_tags(tmp_path, IN_COLUMNS, "floor1/hall,,,,,1,1")
    elif request.param == "listed":
        write_tags(tmp_path, LISTED, "floor1/hall,,,,,wall;floor")
    return open_files(tmp_path)


@pytest.mark.parametrize("said", [WALL, BOTH, NOTHING, NOT_SURE])
def test_what_is_said_is_read_back_by_others(files, said):
    files.say("office", BALL, said, None)
    assert said_of(open_files(files.folder)) == said


@pytest.mark.parametrize("said", [WALL, NOTHING, NOT_SURE])
def test_what_is_said_can_be_changed_and_taken_back(files, said):
    before = files.read()
    files.say("office", BALL, BOTH, None)
    files.say("office", BALL, said, BOTH)
    assert said_of(files) == said._replace(seconds=said.seconds + BOTH.seconds)
    files.say("office", BALL, None, said)
    assert said_of(files) is None
    assert files.read().said("floor1_hall") == before.said("floor1_hall")


def test_a_whole_scan_is_tagged_beside_its_balls(files):
    files.say("office", None, WALL, None)
    files.say("office", BALL, BOTH, None)
    assert said_of(files, ball=None) == WALL
    assert said_of(files) == BOTH


def test_a_new_file_has_the_documented_header(tmp_path):
    write_classes(tmp_path, "wall", "floor")
    open_files(tmp_path).say("office", BALL, BOTH, None)
    assert tags_text(tmp_path) == (
        "scene,x,y,z,radius,tags,seconds,unsure\n"
        "office.npz,1.0000,2.0000,0.5000,2.0000,wall;floor,4.0,0\n"
    )


def test_lines_that_nobody_touched_stay_byte_for_byte(tmp_path):
    text = (
        "\ufeffscene,note,x,y,z,radius,wall,floor\r\n"
        '"office","1",  1,2.0,.5,2,1,0\r\n\r\n'
        "floor1/hall,0,,,,,1,1"
    )
    text = text.replace("note", '"a, b"')
    (tmp_path / "tags.csv").write_bytes(text.encode())
    files = open_files(tmp_path)
    files.say("office", OTHER, WALL, None)
    assert tags_text(tmp_path) == (
        '\ufeffscene,"a, b",x,y,z,radius,wall,floor,seconds,unsure\r\n'
        '"office","1",  1,2.0,.5,2,1,0,,\r\n\r\n'
        "floor1/hall,0,,,,,1,1,,\r\n"
        "office.npz,0,3.0000,2.0000,0.5000,2.0000,1,0,3.0,0\r\n"
    )


def test_a_changed_line_keeps_its_place_and_its_spelling(tmp_path):
    write_classes(tmp_path, "wall", "floor")
    write_tags(tmp_path, LISTED, "office,1,2,.5,2,wall", "floor1/hall,,,,,floor")
    open_files(tmp_path).say("office", BALL, BOTH, WALL)
    assert tags_text(tmp_path).splitlines() == [
        f"{LISTED},seconds,unsure",
        "office,1,2,.5,2,wall;floor,4.0,0",
        "floor1/hall,,,,,floor,,",
    ]


def test_columns_for_balls_are_added_where_only_whole_scans_were_tagged(tmp_path):
    write_classes(tmp_path, "wall", "floor")
    write_tags(tmp_path, "scene,tags", "office,wall")
    files = open_files(tmp_path)
    files.say("office", BALL, BOTH, None)
    assert said_of(files) == BOTH
    assert said_of(files, ball=None).tags == {"wall"}


def test_two_pages_cannot_overwrite_each_other(files):
    files.say("office", BALL, WALL, None)
    with pytest.raises(ChangedError, match="changed elsewhere"):
        files.say("office", BALL, BOTH, None)
    with pytest.raises(ChangedError, match="changed elsewhere"):
        files.say("office", BALL, None, NOT_SURE)
    assert said_of(files) == WALL


def test_the_same_answer_twice_is_no_conflict(files):
    files.say("office", BALL, WALL, None)
    files.say("office", BALL, WALL, None)
    assert said_of(files) == WALL


def test_what_an_editor_changed_meanwhile_is_kept(files):
    files.say("office", BALL, WALL, None)
    lines = tags_text(files.folder).splitlines()
    cells = lines[-1].split(",")
    moved = ",".join([cells[0], "9", *cells[2:]])
    (files.folder / "tags.csv").write_text("\n".join([*lines, moved]) + "\n")
    files.say("office", OTHER, BOTH, None)
    assert said_of(files, ball=(9.0, *BALL[1:])) == WALL
    assert said_of(files, ball=OTHER) == BOTH


def test_an_editor_that_saves_between_reading_and_writing_loses_nothing(files, monkeypatch):
    files.say("office", BALL, WALL, None)
    write_synced, saved = tag_files._write_synced, []

    def save_first(path, data):
        if not saved:
            saved.append(True)
            lines = tags_text(files.folder).replace("1.0000,2.0000", "7.0000,2.0000")
            (files.folder / "tags.csv").write_text(lines)
        write_synced(path, data)

    monkeypatch.setattr(tag_files, "_write_synced", save_first)
    files.say("office", OTHER, BOTH, None)
    assert said_of(files, ball=(7.0, *BALL[1:])) == WALL
    assert said_of(files, ball=OTHER) == BOTH


def test_a_broken_file_is_refused_with_its_line_and_left_alone(files):
    broken = b"scene,x,y,z,radius,wall,floor\noffice,1,2,3\n"
    (files.folder / "tags.csv").write_bytes(broken)
    with pytest.raises(UserError, match="line 2 has 4 cells"):
        files.say("office", BALL, WALL, None)
    assert (files.folder / "tags.csv").read_bytes() == broken


def test_many_threads_lose_no_answer(files):
    balls = [(float(i), 0.0, 0.0, 2.0) for i in range(12)]
    threads = [
        threading.Thread(target=files.say, args=("office", ball, BOTH, None)) for ball in balls
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [said_of(files, ball=ball) for ball in balls] == [BOTH] * len(balls)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_takes_nothing_leaves_the_old_file(files, monkeypatch, number, step):
    files.say("office", BALL, WALL, None)
    before = tags_text(files.folder)

    def fail(*args):
        raise OSError(number, os.strerror(number))

    target = (os, "fsync") if step == "fsync" else (pathlib.Path, "replace")
    monkeypatch.setattr(*target, fail)
    with pytest.raises(FailedWriteError, match=r"tags\.csv: cannot be written"):
        files.say("office", OTHER, BOTH, None)
    monkeypatch.undo()
    assert tags_text(files.folder) == before
    assert not [*files.folder.glob(".tags*")]
    assert said_of(files, ball=OTHER) is None


def test_a_folder_in_the_place_of_the_file_is_one_line(tmp_path):
    write_classes(tmp_path, "wall")
    (tmp_path / "tags.csv").mkdir()
    with pytest.raises((UserError, OSError)):
        open_files(tmp_path).say("office", BALL, WALL, None)


def test_clicks_are_added_and_removed_by_their_id(files):
    point = (1.0, 2.0, 0.5)
    first = files.click("office", point, "wall", "yes", 2.0)
    second = files.click("office", point, "floor", "no", None)
    third = files.click("office", point, None, "none", 1.0)
    fourth = files.click("office", point, None, "unsure", 1.0)
    files.unclick("office", second)
    rows = read_clicks(files.folder / "clicks.csv", SCENES, ["wall", "floor"]).rows["office"]
    assert click_ids(rows) == [first, third, fourth]
    assert [row.answer for row in rows] == ["yes", "none", "unsure"]
    with pytest.raises(ChangedError, match="gone already"):
        files.unclick("office", second)


def test_two_equal_clicks_have_ids_of_their_own(files):
    ids = {files.click("office", (1.0, 2.0, 0.5), "wall", "yes", None) for _ in range(2)}
    assert len(ids) == 2


def test_clicks_of_others_stay_as_they_are(files):
    lines = "scene,x,y,z,class,answer\nfloor1/hall,1,2.50,3,wall,no\n"
    (files.folder / "clicks.csv").write_text(lines)
    files.click("office", (1.0, 2.0, 0.5), "wall", "yes", 2.0)
    assert (files.folder / "clicks.csv").read_text() == (
        "scene,x,y,z,class,answer,seconds\n"
        "floor1/hall,1,2.50,3,wall,no,\n"
        "office.npz,1.0000,2.0000,0.5000,wall,yes,2.0\n"
    )


def test_a_class_is_added_and_usable_at_once(files):
    files.say("office", BALL, BOTH, None)
    files.say("office", OTHER, NOT_SURE, None)
    files.add_class("shower curtain")
    assert files.read().classes == ("wall", "floor", "shower curtain")
    assert said_of(files) == BOTH
    said = Said(frozenset({"shower curtain"}), False, 1.0)
    files.say("floor1_hall", BALL, said, None)
    assert said_of(open_files(files.folder), "floor1_hall") == said


def test_a_class_of_the_column_form_stands_in_the_list_of_classes_too(tmp_path):
    write_classes(tmp_path, "# rooms", "wall", "floor")
    write_tags(tmp_path, IN_COLUMNS, "office,1,2,.5,2,1,0")
    open_files(tmp_path).add_class("chair")
    assert (tmp_path / "classes.txt").read_text() == "# rooms\nwall\nfloor\nchair\n"
    assert tags_text(tmp_path) == f"{IN_COLUMNS},chair\noffice,1,2,.5,2,1,0,0\n"


def test_the_columns_stay_the_list_of_classes_where_they_are_it(tmp_path):
    write_tags(tmp_path, IN_COLUMNS, "office,1,2,.5,2,1,0")
    open_files(tmp_path).add_class("chair")
    assert not (tmp_path / "classes.txt").exists()
    assert open_files(tmp_path).read().classes == ("wall", "floor", "chair")


def test_the_first_class_of_a_folder_is_a_column_and_gives_labels_in_scans_no_meaning(tmp_path):
    files = open_files(tmp_path)
    assert files.read().classes == ()
    files.add_class(" chair ")
    files.add_class("wall")
    files.say("office", BALL, Said(frozenset({"chair"}), False), None)
    assert not (tmp_path / "classes.txt").exists()
    lines = tags_text(tmp_path).splitlines()
    assert lines[0] == "scene,x,y,z,radius,chair,seconds,unsure,wall" and len(lines) == 2
    assert open_files(tmp_path).read().classes == ("chair", "wall")
    assert said_of(open_files(tmp_path)).tags == {"chair"}


def test_a_class_gets_a_label_that_no_scan_uses(tmp_path):
    write_classes(tmp_path, "1 floor", "4 wall")
    open_files(tmp_path).add_class("chair")
    assert (tmp_path / "classes.txt").read_text() == "1 floor\n4 wall\n1000000 chair\n"


@pytest.mark.parametrize(
    "name", ["", "a" * 61, "a;b", "# a", "2 wall", "Wall", "seconds", "a\nb", "a\x00"]
)
def test_a_name_that_cannot_be_written_is_refused(files, name):
    with pytest.raises(UserError):
        files.add_class(name)
    assert files.read().classes == ("wall", "floor")


def test_a_class_that_is_there_is_added_once(files):
    files.add_class("chair")
    files.add_class("chair")
    assert files.read().classes == ("wall", "floor", "chair")


def test_classes_of_a_data_set_are_fixed(tmp_path):
    files = open_files(tmp_path, classes=("wall", "floor"))
    with pytest.raises(UserError, match="fixed"):
        files.add_class("chair")
    files.say("office", BALL, BOTH, None)
    assert said_of(files) == BOTH
    assert not (tmp_path / "classes.txt").exists()


def test_killed_between_column_and_class_the_next_start_completes_it(tmp_path, monkeypatch):
    write_classes(tmp_path, "wall", "floor")
    write_tags(tmp_path, IN_COLUMNS, "office,1,2,.5,2,1,0")
    monkeypatch.setattr(tag_files, "finish_class", lambda folder: None)
    open_files(tmp_path).add_class("chair")
    monkeypatch.undo()
    with pytest.raises(UserError):
        open_files(tmp_path).read()
    finish_class(tmp_path)
    assert open_files(tmp_path).read().classes == ("wall", "floor", "chair")


def test_a_class_that_never_came_to_the_tags_is_forgotten(tmp_path):
    write_classes(tmp_path, "wall", "floor")
    write_tags(tmp_path, IN_COLUMNS, "office,1,2,.5,2,1,0")
    (tmp_path / ".classes.txt.next").write_text("wall\nfloor\nchair\n")
    finish_class(tmp_path)
    assert open_files(tmp_path).read().classes == ("wall", "floor")
    assert not (tmp_path / ".classes.txt.next").exists()


def test_far_and_small_units_keep_their_place(tmp_path):
    write_classes(tmp_path, "wall", "floor")
    files = open_files(tmp_path, scale=0.001)
    ball = (500_000_123.44, 4_000_000_000.01, 99.96, 2000.0)
    files.say("office", ball, WALL, None)
    assert said_of(files, ball=ball) == WALL
    assert "500000123.4,4000000000.0,100.0,2000.0" in tags_text(tmp_path)


def test_a_link_to_the_tags_stays_a_link(tmp_path):
    folder, elsewhere = tmp_path / "scans", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    write_classes(folder, "wall", "floor")
    (elsewhere / "tags.csv").write_text(f"{LISTED}\n")
    (folder / "tags.csv").symlink_to(elsewhere / "tags.csv")
    open_files(folder).say("office", BALL, WALL, None)
    assert (folder / "tags.csv").is_symlink()
    assert "wall" in (elsewhere / "tags.csv").read_text()


def test_names_with_commas_and_quotes_are_read_back(tmp_path):
    write_classes(tmp_path, 'the "big", red one', "floor")
    files = open_files(tmp_path)
    said = Said(frozenset({'the "big", red one'}), False)
    files.say("office", BALL, said, None)
    files.click("office", BALL[:3], 'the "big", red one', "yes", None)
    assert said_of(open_files(tmp_path)) == said


def test_a_class_that_the_form_cannot_hold_is_refused_before_it_is_written(tmp_path):
    write_classes(tmp_path, "wall; inside", "floor")
    write_tags(tmp_path, LISTED)
    with pytest.raises(UserError):
        open_files(tmp_path).say("office", BALL, Said(frozenset({"wall; inside"}), False), None)
    assert tags_text(tmp_path) == f"{LISTED}\n"


def test_a_folder_of_scans_reads_what_was_written(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "tags.csv").unlink()
    write_scan(tmp_path / "floor1" / "hall.npz", coords=np.array([[0, 0, 0], [1.0, 1, 1]]))
    files = open_files(tmp_path)
    files.add_class("wall")
    files.add_class("floor")
    files.say("floor1_hall", (0.5, 0.5, 0.5, 1.0), WALL, None)
    folder = Folder(tmp_path)
    weak = folder.read("train", "floor1_hall").weak_labels
    np.testing.assert_array_equal(weak.tags, [[True, False]])
    np.testing.assert_allclose(weak.centers, [[0.5, 0.5, 0.5]])


def test_scans_of_one_name_stay_apart(tmp_path):
    """Named with its suffix in `tags.csv`, the tagged one of two counts."""
    write_scan(tmp_path / "office.npz")
    np.save(tmp_path / "office.npy", np.zeros((4, 6)))
    write_classes(tmp_path, "wall")
    TagFiles(tmp_path, {"office": "office.npz"}).say("office", BALL, WALL, None)
    assert Folder(tmp_path).files("train", "office")[0].endswith("office.npz")


def test_without_a_class_nothing_can_be_said(tmp_path):
    files = open_files(tmp_path)
    with pytest.raises(UserError, match="no class yet"):
        files.say("office", BALL, NOTHING, None)
    with pytest.raises(UserError, match="no class yet"):
        files.click("office", BALL[:3], None, "none", None)
    assert not [*tmp_path.iterdir()]


def test_a_name_that_is_no_text_is_refused(tmp_path):
    write_classes(tmp_path, "wall")
    files = TagFiles(tmp_path, {"off\udce4ce": "off\udce4ce.npz"})
    with pytest.raises(UserError, match="rename the scan"):
        files.say("off\udce4ce", BALL, WALL, None)


def test_rows_in_both_tables_read_alike(files):
    files.say("office", BALL, BOTH, None)
    names = ["wall", "floor"] if (files.folder / "classes.txt").exists() else None
    table = read_tags(files.folder / "tags.csv", SCENES, names)
    assert [row.present for row in table.rows["office"]] == [BOTH.tags]
