"""Tag, train, ask, train again: every command takes up what the one before it left."""

import json
import sys

import numpy as np
import pytest
import runs
from scan_folders import write_scan
from served import ask, open_app, serving

from mprm_jax.evidence.clicks import read_clicks
from mprm_jax.store.exports import Export, as_labels
from mprm_jax.store.scenes import SceneStore
from mprm_jax.tagging.looks import open_look

pytestmark = pytest.mark.slow
CLASSES = ("wall", "floor", "table")
DATA = ("--data", "folder:scans", "--preset", "tiny")


def write_room(path, seed):
    """A floor, a wall and a table; where they are, is known."""
    rng = np.random.default_rng(seed)
    floor = rng.uniform(0, 1, (900, 3)) * (2.4, 2.0, 0)
    wall = rng.uniform(0, 1, (900, 3)) * (2.4, 0, 1.5)
    table = rng.uniform(0, 1, (200, 3)) * (0.6, 0.6, 0.02) + (1.6, 1.2, 0.7)
    colors = np.repeat(np.array([[90, 80, 70], [200, 200, 190], [120, 60, 30]]), [900, 900, 200], 0)
    colors = np.clip(colors + rng.normal(0, 8, colors.shape), 0, 255).astype(np.uint8)
    write_scan(path, np.concatenate([floor, wall, table]), rgb=colors)


def truth(point):
    """Index of the class at a point of such a room."""
    _, y, z = point
    return 2 if z > 0.6 and y > 1 else 0 if y < 0.05 else 1


@pytest.fixture
def mprm(tmp_path):
    """Runs a command in the folder that holds the scans."""

    def mprm(*arguments):
        line = [sys.executable, "-m", "mprm_jax", *map(str, arguments)]
        ended = runs.run(line, tmp_path)
        assert ended.returncode == 0, ended.stderr[-2000:]
        return ended.stdout + ended.stderr

    return mprm


def tag_all(folder):
    """A person tags every ball on the page, by what is really in it."""
    with serving(open_app(folder)) as server:
        for index in range(2):
            for ball in ask(server, f"api/scan/{index}")[1]["balls"]:
                points = np.load(folder / f"room{index}.npz")["xyz"]
                origin = np.array(ask(server, f"api/scan/{index}")[1]["origin"])
                away = np.linalg.norm(points - origin - np.array(ball["center"]), axis=1)
                tags = sorted({truth(point) for point in points[away < ball["radius"]]})
                body = {"tags": tags, "state": "tagged", "seconds": 4.0}
                body["before"] = {"state": "open", "tags": []}
                status, _ = ask(server, f"api/scan/{index}/ball/{ball['id']}", body)
                assert status == 200


def answer_all(folder, path, count):
    """A person answers the questions of a run; returns how many."""
    look = open_look(path)
    app = open_app(folder)
    already = {}
    clicks = folder / "clicks.csv"
    if clicks.exists():
        table = read_clicks(clicks, look.store.scenes("train"), CLASSES)
        already = {name: np.array([row.point for row in rows]) for name, rows in table.rows.items()}
    questions = look.ask(count, already)
    for question in questions:
        index = int(question.scene.removeprefix("room"))
        origin = np.array(json.loads(app.answer("GET", f"api/scan/{index}", b"").body)["origin"])
        body = {"point": (np.array(question.point) - origin).tolist(), "answer": "yes"}
        body |= {"class": truth(question.point), "seconds": 3.0}
        answer = app.answer("POST", f"api/scan/{index}/click", json.dumps(body).encode())
        assert answer.status == 200, answer.body
    return len(questions)


def test_two_rounds_of_tagging_and_training(tmp_path, mprm):
    scans = tmp_path / "scans"
    for seed in range(2):
        write_room(scans / f"room{seed}.npz", seed)
    (scans / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    tag_all(scans)
    assert "minutes" in mprm("tag", *DATA, "--report")

    settings = ("--set", *runs.SETTINGS)
    mprm("train", "--stage", "cls", *DATA, *settings)
    first = tmp_path / "runs" / "cls-scans-tiny"
    mprm("refine", "--export", first / "pseudo_labels")
    refined = first / "pseudo_labels_crf"
    mprm("train", "--stage", "seg", "--pseudo-labels", refined, *DATA, *settings)

    # The first network asks, a person answers, and the labels hold the answers.
    num_asked = answer_all(scans, first, count=3)
    assert num_asked > 0
    assert "held an earlier export" in mprm("refine", "--export", first / "pseudo_labels")
    said = mprm("prepare", *DATA, *settings)
    assert f"{num_asked} clicks" in said and "0 scenes prepared" in said
    store = SceneStore(Export(refined).manifest.store)
    for name in store.scenes("train"):
        sets = store.candidates("train", name)
        labels = as_labels(Export(refined).load(name).label)
        known = sets.certain & sets.allowed.any(axis=1)
        np.testing.assert_array_equal(labels[known], sets.allowed[known].argmax(axis=1))

    # Both networks go on in a round of their own, from the weights of the first.
    said = mprm("train", "--stage", "cls", *DATA, *settings)
    assert (tmp_path / "runs" / "cls-scans-tiny-round2" / "results.json").exists()
    assert "starting from the weights of runs/cls-scans-tiny" in said
    assert "changed since runs/cls-scans-tiny was trained; that one took" in said
    mprm("train", "--stage", "seg", "--pseudo-labels", refined, *DATA, *settings)
    second = tmp_path / "runs" / "seg-scans-tiny-round2"
    assert (second / "results.json").exists()

    # The segmentation network asks in its turn, of what was not asked before.
    mprm("export", "--workdir", second)
    assert answer_all(scans, second, count=2) > 0
    mprm("refine", "--export", second / "pseudo_labels")
    mprm("tag", "--review", second, "--html", "review.html")
    assert (tmp_path / "review.html").stat().st_size > 100_000
