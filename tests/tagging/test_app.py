import json
import pathlib

import numpy as np
import pytest
from served import OPEN, open_app, read_points, write_room, write_rooms

from mprm_jax.config import DataConfig
from mprm_jax.evidence.folder import Folder
from mprm_jax.tagging.balls_to_tag import short_walk

MILLIMETERS = 0.001


@pytest.fixture
def app(tmp_path):
    write_rooms(tmp_path)
    return open_app(tmp_path)


def get(app, path):
    answer = app.answer("GET", path, b"")
    assert answer.status == 200, answer.body
    return json.loads(answer.body) if answer.kind == "application/json" else answer.body


def post(app, path, **body):
    answer = app.answer("POST", path, json.dumps(body).encode())
    return answer.status, json.loads(answer.body)


def tag(app, ball, tags, before=OPEN, scan=0, state="tagged", seconds=2.0):
    path = f"api/scan/{scan}/ball/{ball}"
    return post(app, path, state=state, tags=tags, seconds=seconds, before=before)


def test_the_state_lists_scans_and_classes(app):
    state = get(app, "api/state")
    assert [scan["name"] for scan in state["scans"]] == ["hall", "office"]
    assert [one["name"] for one in state["classes"]] == ["wall", "floor", "chair"]
    assert [one["key"] for one in state["classes"]] == ["1", "2", "3"]
    assert state["class_keys"].startswith("1234567890ab")
    assert state["mode"] == "tag"
    assert not state["readonly"]


def test_balls_cover_the_scan_and_come_in_a_short_walk(app):
    balls = get(app, "api/scan/0")["balls"]
    centers = np.array([ball["center"] for ball in balls])
    assert [ball["id"] for ball in balls] == list(range(len(balls)))
    assert all(ball["state"] == "open" for ball in balls)
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    assert steps.mean() < 3.5  # of cells of 2.5 m
    assert get(app, "api/state")["scans"][0]["balls"] == len(balls)


def test_chunks_hold_the_points_that_are_shown(app):
    scan = get(app, "api/scan/0")
    assert (scan["total_points"], scan["shown_points"]) == (3000, 2000)
    coords, colors = read_points(get(app, "api/scan/0/points/0"))
    assert len(coords) == len(colors) == 2000
    low, high = scan["bounds"]
    assert (coords >= np.array(low) - 1e-5).all()
    assert (coords <= np.array(high) + 1e-5).all()
    assert app.answer("GET", "api/scan/0/points/1", b"").status == 404


def test_a_ball_is_denser_than_the_scan(app):
    ball = get(app, "api/scan/0")["balls"][1]
    coords, _ = read_points(get(app, "api/scan/0/ball/1"))
    apart = np.linalg.norm(coords - np.array(ball["center"]), axis=1)
    shown, _ = read_points(get(app, "api/scan/0/points/0"))
    shown_apart = np.linalg.norm(shown - np.array(ball["center"]), axis=1)
    assert (apart < ball["radius"]).all()
    assert len(apart) > (shown_apart < ball["radius"]).sum()


def test_an_answer_is_there_after_a_new_start(app, tmp_path):
    status, answer = tag(app, 1, [0, 2])
    assert status == 200
    assert answer["scan"]["done"] == 1
    again = get(open_app(tmp_path), "api/scan/0")["balls"]
    assert again[1] == answer["ball"] | {"id": 1}
    assert again[1]["state"] == "tagged"
    assert again[1]["tags"] == [0, 2]
    assert again[0]["state"] == "open"


@pytest.mark.parametrize("state", ["tagged", "unsure"])
def test_nothing_here_and_not_sure_are_answers(app, state):
    _, answer = tag(app, 0, [], state=state)
    assert (answer["ball"]["state"], answer["ball"]["tags"]) == (state, [])
    assert answer["scan"]["unsure"] == (state == "unsure")


def test_undo_opens_a_ball_again(app):
    tag(app, 0, [1])
    _, answer = tag(app, 0, [], before={"state": "tagged", "tags": [1]}, state="open")
    assert answer["ball"]["state"] == "open"
    assert answer["scan"]["done"] == 0


def test_a_page_that_is_behind_is_told_what_is_there(app):
    tag(app, 0, [1])
    status, answer = tag(app, 0, [2])
    assert status == 409
    assert answer["ball"]["tags"] == [1]
    assert "changed elsewhere" in answer["error"]


def test_seconds_add_up(app):
    tag(app, 0, [1], seconds=2.0)
    _, answer = tag(app, 0, [2], before={"state": "tagged", "tags": [1]}, seconds=3.5)
    assert answer["ball"]["seconds"] == 5.5
    assert get(app, "api/state")["report"]["total"]["minutes"] == round(5.5 / 60, 2)


def test_a_whole_scan_is_tagged(app):
    status, answer = post(app, "api/scan/1/scene", tags=[0], seconds=1, before=None)
    assert (status, answer["scene_tags"]["tags"]) == (200, [0])
    assert answer["scan"]["scene_tags"]
    status, answer = post(app, "api/scan/1/scene", tags=[1], seconds=1, before=None)
    assert (status, answer["scene_tags"]["tags"]) == (409, [0])
    status, answer = post(app, "api/scan/1/scene", tags=None, seconds=1, before={"tags": [0]})
    assert (status, answer["scene_tags"]) == (200, None)
    assert post(app, "api/scan/1/scene", tags=[], before=None)[0] == 400


def test_a_scan_that_somebody_was_not_sure_of_can_be_tagged(app, tmp_path):
    (tmp_path / "tags.csv").write_text("scene,tags,unsure\nhall,,1\n")
    assert get(app, "api/scan/0")["scene_tags"] is None
    status, answer = post(app, "api/scan/0/scene", tags=[0], before=None)
    assert (status, answer["scene_tags"]["tags"]) == (200, [0])


def test_clicks_come_and_go(app):
    _, answer = post(
        app, "api/scan/0/click", **{"point": [1, 2, 0], "class": 2, "answer": "no", "seconds": 2}
    )
    assert answer["click"]["point"] == pytest.approx([1, 2, 0])
    assert (answer["click"]["class"], answer["click"]["answer"]) == (2, "no")
    assert answer["click"]["seconds"] == 2
    assert get(app, "api/scan/0")["clicks"] == [answer["click"]]
    status, answer = post(app, "api/scan/0/unclick", id=answer["click"]["id"])
    assert (status, answer["scan"]["clicks"]) == (200, 0)
    assert post(app, "api/scan/0/unclick", id="gone")[0] == 409


def test_a_click_far_from_the_scan_is_refused(app, tmp_path):
    status, answer = post(app, "api/scan/0/click", point=[1, 2, 90], **{"class": 2}, answer="yes")
    assert status == 422 and "more than 0.5 m from the scan" in answer["error"]
    assert not (tmp_path / "clicks.csv").exists()


def test_a_class_is_added_and_tagged(app):
    _, answer = post(app, "api/classes", name="lamp")
    assert [one["name"] for one in answer["classes"]] == ["wall", "floor", "chair", "lamp"]
    assert tag(app, 0, [3])[1]["ball"]["tags"] == [3]


def test_classes_in_another_order_are_no_longer_those_of_the_page(app, tmp_path):
    get(app, "api/state")
    (tmp_path / "classes.txt").write_text("floor\nwall\nchair\n")
    for status, answer in (tag(app, 0, [0]), post(app, "api/scan/0/scene", tags=[0], before=None)):
        assert status == 409
        assert "reload the page" in answer["error"]
    get(app, "api/state")
    assert tag(app, 0, [0])[0] == 200
    assert "floor" in (tmp_path / "tags.csv").read_text()


def test_a_table_that_another_program_keeps_is_one_line(app, tmp_path, monkeypatch):
    tag(app, 0, [0])

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    status, answer = tag(app, 1, [0])
    assert status == 500
    assert answer["error"] == f"{tmp_path / 'tags.csv'}: Permission denied."


def test_a_folder_of_which_nothing_is_known_can_be_tagged(tmp_path):
    write_rooms(tmp_path, classes=())
    app = open_app(tmp_path)
    assert get(app, "api/state")["classes"] == []
    post(app, "api/classes", name="wall")
    assert tag(app, 0, [0])[0] == 200
    assert Folder(tmp_path).read("train", "hall").weak_labels.tags.tolist() == [[True]]


@pytest.mark.parametrize(
    ("offset", "scale"),
    [((0, 0, 0), 1), ((500_000, 4_000_000, 80), 1), ((500_000, 4_000_000, 80), MILLIMETERS)],
)
def test_places_far_away_and_in_any_unit_come_back(tmp_path, offset, scale):
    write_rooms(tmp_path, offset=offset, scale=scale)
    app = open_app(tmp_path, data=DataConfig(scale=float(scale)))
    balls = get(app, "api/scan/0")["balls"]
    for ball in range(len(balls)):
        assert tag(app, ball, [0])[0] == 200
    _, click = post(app, "api/scan/0/click", **{"point": [1, 2, 0], "class": 0, "answer": "yes"})
    assert click["click"]["point"] == pytest.approx([1, 2, 0], abs=2e-4)  # as it is written
    again = get(open_app(tmp_path, data=DataConfig(scale=float(scale))), "api/scan/0")
    assert len(again["balls"]) == len(balls)
    assert all(ball["state"] == "tagged" for ball in again["balls"])
    weak = Folder(tmp_path, float(scale)).read("train", "hall").weak_labels
    moved = weak.centers - np.floor(offset)
    expected = [ball["center"] for ball in balls]
    np.testing.assert_allclose(np.sort(moved, 0), np.sort(expected, 0), atol=2e-4)


def test_coordinates_far_away_keep_their_digits(tmp_path):
    write_room(tmp_path / "near.npz")
    write_room(tmp_path / "far.npz", offset=(500_000, 4_000_000, 80))
    app = open_app(tmp_path)
    far, near = (read_points(get(app, f"api/scan/{index}/points/0"))[0] for index in (0, 1))
    np.testing.assert_allclose(np.sort(far, axis=0), np.sort(near, axis=0), atol=1e-6)


def test_balls_that_only_the_file_has_are_shown(app, tmp_path):
    tag(app, 0, [0])
    lines = (tmp_path / "tags.csv").read_text() + "hall,1.0,1.0,1.0,0.7,chair,,\n"
    (tmp_path / "tags.csv").write_text(lines)
    balls = get(app, "api/scan/0")["balls"]
    assert (balls[-1]["radius"], balls[-1]["tags"]) == (pytest.approx(0.7), [2])


def test_a_scan_that_cannot_be_read_is_one_line_and_the_others_go_on(tmp_path):
    write_rooms(tmp_path)
    (tmp_path / "broken.ply").write_bytes(b"ply\nnothing")
    app = open_app(tmp_path)
    answer = app.answer("GET", "api/scan/0", b"")
    assert answer.status == 422
    assert "broken.ply" in json.loads(answer.body)["error"]
    broken = [scan["broken"] for scan in get(app, "api/state")["scans"]]
    assert "broken.ply" in broken[0]
    assert broken[1:] == [None, None]
    assert get(app, "api/scan/1")["balls"]


def test_a_broken_file_is_told_and_nothing_is_written(app, tmp_path):
    tag(app, 0, [0])
    (tmp_path / "tags.csv").write_text("scene,tags\noffice,lamp\n")
    status, answer = tag(app, 1, [1])
    assert status == 422
    assert "line 2 names class 'lamp'" in answer["error"]
    assert (tmp_path / "tags.csv").read_text() == "scene,tags\noffice,lamp\n"


def test_whole_scenes_have_no_balls(tmp_path):
    write_rooms(tmp_path)
    app = open_app(tmp_path, whole_scenes=True)
    assert get(app, "api/state")["whole_scenes"]
    assert get(app, "api/scan/0")["balls"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"state": "tagged", "tags": [3], "before": OPEN},
        {"state": "tagged", "tags": [-1], "before": OPEN},
        {"state": "tagged", "tags": [True], "before": OPEN},
        {"state": "tagged", "tags": "wall", "before": OPEN},
        {"state": "closed", "tags": [], "before": OPEN},
        {"state": "tagged", "tags": [], "before": None},
        {"state": "tagged", "tags": [], "before": OPEN, "seconds": -1},
        {"state": "tagged", "tags": [], "before": OPEN, "seconds": float("nan")},
        {"state": "tagged", "tags": [], "before": OPEN, "seconds": "2"},
    ],
)
def test_a_wrong_body_is_refused(app, tmp_path, body):
    status, answer = post(app, "api/scan/0/ball/0", **body)
    assert status == 400
    assert "\n" not in answer["error"]
    assert not (tmp_path / "tags.csv").exists()


@pytest.mark.parametrize(
    "body",
    [
        {"point": [0, 0], "class": 0, "answer": "yes"},
        {"point": [0, 0, 1e300], "class": 0, "answer": "yes"},
        {"point": [0, 0, 0], "class": None, "answer": "yes"},
        {"point": [0, 0, 0], "class": 0, "answer": "maybe"},
    ],
)
def test_a_wrong_click_is_refused(app, tmp_path, body):
    assert post(app, "api/scan/0/click", **body)[0] == 400
    assert not (tmp_path / "clicks.csv").exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 60_000])
def test_what_is_no_json_object_is_refused(app, body):
    assert app.answer("POST", "api/scan/0/ball/0", body).status == 400


@pytest.mark.parametrize(
    "path",
    [
        "api/scan/2",
        "api/scan/-1",
        "api/scan/0/ball/999",
        "api/scan/0/points/9999999999",
        "api/scan/\u0660",
        "api/scan/0/../../state",
        "page/../app.py",
        "page/..%2fapp.py",
        "page//etc/passwd",
        "/etc/passwd",
        "app.py",
        "page",
        "page/",
    ],
)
def test_no_path_leads_anywhere_else(app, path):
    assert app.answer("GET", path, b"").status == 404


def test_a_short_walk_visits_every_point_once():
    points = np.random.default_rng(0).uniform(size=(50, 3))
    assert sorted(short_walk(points)) == list(range(50))
    assert short_walk(np.zeros((0, 3))) == []
