import pytest

from mprm_jax.tagging.minutes import count_minutes
from mprm_jax.tagging.tag_files import Said, TagFiles

SCENES = {"office": "office", "hall": "hall"}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "classes.txt").write_text("wall\nfloor\n")
    files = TagFiles(tmp_path, SCENES)
    files.say("office", (0, 0, 0, 2), Said(frozenset({"wall", "floor"}), False, 60.0), None)
    files.say("office", (2, 0, 0, 2), Said(frozenset({"wall"}), False, 30.0), None)
    files.say("office", (4, 0, 0, 2), Said(frozenset(), True, 12.0), None)
    files.say("office", None, Said(frozenset({"wall"}), False, None), None)
    files.click("office", (1, 0, 0), "wall", "yes", 18.0)
    return files


def test_what_tags_cost_is_counted(files):
    values = count_minutes(files.read(), [*SCENES]).values
    assert values["scenes"] == {
        "office": {
            "minutes": 2.0,
            "balls": 2,
            "unsure": 1,
            "tags_per_ball": 1.5,
            "scene_tags": 1,
            "clicks": 1,
            "answers": 5,
            "answers_with_time": 4,
        }
    }
    assert values["total"]["minutes_per_scene"] == 2.0
    assert values["untouched"] == 1


def test_the_table_says_the_same(files):
    lines = count_minutes(files.read(), [*SCENES]).text.splitlines()
    assert lines[1].split() == ["office", "2.0", "2", "1.5", "1", "1", "1"]
    assert lines[-1] == (
        "1 of 2 scans begun; 2.0 minutes each. Answers without a time, counted as 0: 1."
    )


def test_nothing_done_is_nothing_counted(tmp_path):
    report = count_minutes(TagFiles(tmp_path, SCENES).read(), [*SCENES])
    assert report.text == "none of 2 scans has a tag or a click yet."
    assert report.values["total"]["tags_per_ball"] is None
