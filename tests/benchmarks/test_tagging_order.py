"""The simulated person, its clock, and what is not repeated; commands are stand-ins."""

import itertools
import json
import pathlib
import shutil

import matplotlib.image
import numpy as np
import pytest
import tagging_order
from mined_exports import mined_export
from prepared import make_store

from mprm_jax.commands.reproduction import person as simulated_person
from mprm_jax.evidence.clicks import NONE, YES, read_clicks
from mprm_jax.evidence.tags import read_tags
from mprm_jax.store.exports import Export
from mprm_jax.store.scenes import SceneStore
from mprm_jax.store.truth import point_labels

FILES = ("tags.csv", "clicks.csv")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("rooms"))


class Commands:
    """Stands in for the commands: leaves the files that they would, and counts."""

    def __init__(self, store):
        self.store, self.called = store, []

    def __call__(self, name, *flags, folder):
        given = dict(itertools.pairwise(flags))
        self.called.append(name if name != "train" else f"train {given['--stage']}")
        if name == "prepare":
            (folder / "rooms" / "tiny" / "scans").mkdir(parents=True, exist_ok=True)
            shutil.copytree(self.store.path, given["--store"])
        elif name == "refine":
            self.export(given["--output"])
            return json.dumps({"after": {"miou": 50.0, "accuracy": 80.0}})
        elif name == "export":
            self.export(given["--output"], predicted=True)
        else:
            self.train(pathlib.Path(given["--workdir"]), given["--stage"])
        return ""

    def train(self, workdir, stage):
        if stage == "cls":
            self.export(workdir / "pseudo_labels")
        workdir.mkdir(exist_ok=True, parents=True)
        measures = {"val": {"miou": 40.0, "accuracy": 70.0}}
        (workdir / "results.json").write_text(json.dumps({"measures": measures}))

    def export(self, folder, predicted=False):
        mined_export(pathlib.Path(folder), self.store, predicted=predicted)


@pytest.fixture
def commands(store, monkeypatch):
    made = Commands(store)
    monkeypatch.setattr(tagging_order, "mprm", made)
    return made


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    def set_arguments(*flags):
        flags = [
            "--data",
            "rooms:tiny",
            "--workdir",
            str(tmp_path / "work"),
            "--seeds",
            "1",
            *flags,
        ]
        monkeypatch.setattr("sys.argv", ["tagging_order.py", *flags])

    return set_arguments


def clicks_of(work, setting, store):
    path = work / "seed0" / setting / "rooms" / "tiny" / "clicks.csv"
    return read_clicks(path, store.scenes("train"), store.classes).rows


def test_the_clock_adds_up():
    assert simulated_person.Effort(6, 0, 0).minutes == pytest.approx(1.0)
    assert simulated_person.Effort(0, 4, 0).minutes == pytest.approx(1.0)
    assert simulated_person.Effort(3, 1, 20).minutes == pytest.approx((30 + 15 + 70) / 60)


def test_answers_are_those_of_the_nearest_point(tmp_path, store):
    scene = store.scenes("train")[0]
    coords, labels = store.points("train", scene).coords, point_labels(store, "train", scene)
    origin = np.array(store.info("train", scene).origin)
    simulated_person.click(tmp_path / "clicks.csv", store, {scene: coords[:40] + origin[None]})
    rows = read_clicks(tmp_path / "clicks.csv", store.scenes("train"), store.classes).rows[scene]
    answers = [NONE if label < 0 else YES for label in labels[:40]]
    names = [None if label < 0 else store.classes[label] for label in labels[:40]]
    assert [row.answer for row in rows] == answers and [row.class_name for row in rows] == names
    np.testing.assert_allclose([row.point for row in rows], coords[:40] + origin, atol=1e-4)


@pytest.mark.parametrize("ways", ["ranked", "random"])
def test_half_of_the_balls_are_tagged_with_the_truth(tmp_path, store, ways):
    chosen = (
        simulated_person.half_ranked(store)
        if ways == "ranked"
        else simulated_person.half_at_random(store, 0)
    )
    simulated_person.tag_balls(tmp_path / "tags.csv", store, chosen)
    rows = read_tags(tmp_path / "tags.csv", store.scenes("train"), store.classes).rows
    count = simulated_person.count_grid(store).balls
    assert count / 2 <= sum(map(len, rows.values())) <= count / 2 + len(rows)
    for scene, given in rows.items():
        weak, origin = store.weak_labels("train", scene), store.info("train", scene).origin
        for row in given:
            gaps = np.abs(weak.centers + np.array(origin)[None] - np.array(row.ball[:3])[None])
            ball = gaps.max(axis=1).argmin()
            assert gaps[ball].max() < 1e-5 and row.ball[3] == pytest.approx(weak.radii[ball])
            tags = {store.classes[c] for c in np.flatnonzero(weak.tags[ball])}
            assert row.present == tags


def test_random_balls_differ_from_seed_to_seed(store):
    some, others = (simulated_person.half_at_random(store, seed) for seed in (0, 1))
    assert any(sorted(some[scene]) != sorted(others[scene]) for scene in some)


def test_a_few_random_points_are_among_many(store):
    few, many = (simulated_person.random_points(store, count, seed=3) for count in (5, 20))
    for scene in store.scenes("train"):
        np.testing.assert_array_equal(few[scene], many[scene][:5])


def test_chosen_clicks_go_where_the_network_asks(tmp_path, store, commands, arguments):
    arguments("--only", "tags-5-chosen", "--no-networks")
    tagging_order.main()
    base = tmp_path / "work" / "seed0" / "tags"
    export, labels = Export(base / "cls" / "pseudo_labels"), Export(base / "labels")
    asked = simulated_person.asked_points(export, store, 5, None, labels)
    given = clicks_of(tmp_path / "work", "tags-5-chosen", store)
    assert given.keys() == asked.keys()
    for scene, rows in given.items():
        points = np.array([row.point for row in rows])
        assert len(rows) == len(asked[scene]) <= 5
        # The answer is that of a point beside the voxel that is asked about.
        assert np.linalg.norm(points - asked[scene], axis=1).max() < 0.16


def test_a_second_round_keeps_the_clicks_of_the_first(tmp_path, store, commands, arguments):
    arguments("--only", "tags-20-rounds")
    tagging_order.main()
    first = clicks_of(tmp_path / "work", "tags-5-chosen", store)
    both = clicks_of(tmp_path / "work", "tags-20-rounds", store)
    for scene, rows in first.items():
        points = [row.point for row in both[scene]]
        assert points[: len(rows)] == [row.point for row in rows]
        assert len(rows) < len(points) <= 20
    assert commands.called.count("train cls") == 1 and commands.called.count("train seg") == 2


def test_what_has_its_results_is_not_repeated(commands, arguments, capsys):
    arguments("--only", "tags", "tags-5-random", "--no-networks")
    tagging_order.main()
    begun = [*commands.called]
    tagging_order.main()
    assert commands.called == begun
    arguments("--only", "tags", "tags-5-random")
    tagging_order.main()
    assert commands.called[len(begun) :] == ["train seg"] * 2
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["network"] == 40.0


def test_an_interrupted_measurement_goes_on(commands, arguments, monkeypatch):
    def interrupted(workdir, stage):
        raise KeyboardInterrupt

    arguments("--only", "tags", "--no-networks")
    monkeypatch.setattr(commands, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tagging_order.main()
    monkeypatch.undo()
    monkeypatch.setattr(tagging_order, "mprm", commands)
    arguments("--only", "tags", "--no-networks")
    tagging_order.main()
    assert commands.called == ["prepare", "train cls", "train cls", "refine"]


def test_settings_do_not_disturb_each_other(tmp_path, commands, arguments):
    arguments("--only", "half-random", "tags-5-random", "scene", "--no-networks")
    tagging_order.main()
    work = tmp_path / "work"
    assert not any((work / "grid" / "rooms" / "tiny" / name).exists() for name in FILES)
    rooms = sorted(work.glob("seed0/*/rooms/tiny"))
    assert len(rooms) == 3 and all((place / "scans").is_symlink() for place in rooms)
    places = [SceneStore(place.parents[1] / "prepared").path for place in rooms]
    assert len(set(places)) == len(places)


def test_a_run_of_the_user_takes_the_place_of_the_first_network(
    tmp_path, store, commands, arguments
):
    mined_export(tmp_path / "own" / "pseudo_labels", store)
    arguments("--only", "tags-5-chosen", "--no-networks", "--cls", str(tmp_path / "own"))
    tagging_order.main()
    assert "train cls" not in commands.called


def test_other_settings_in_the_same_folder_are_refused(commands, arguments):
    arguments("--only", "tags", "--no-networks")
    tagging_order.main()
    arguments("--only", "tags", "--no-networks", "--set", "optim.epochs=1")
    with pytest.raises(ValueError, match="of other set; choose another"):
        tagging_order.main()


@pytest.mark.slow
def test_all_settings_are_measured_and_drawn(tmp_path, store, commands, arguments):
    arguments("--output", str(tmp_path / "report.json"))
    tagging_order.main()
    measures = json.loads((tmp_path / "report.json").read_text())["measures"]
    rows = {row["setting"]: row for row in measures}
    assert list(rows) == list(tagging_order.SETTINGS)
    assert rows["tags"]["share"] == 100 and rows["clicks-50-random"]["labels"] is None
    num_rooms, balls = len(store.scenes("train")), simulated_person.count_grid(store).balls
    minutes = {name: row["minutes"] for name, row in rows.items()}
    assert minutes["truth"] is None
    assert minutes["tags"] == pytest.approx(balls / num_rooms / 6, rel=1e-3)
    assert minutes["scene"] == pytest.approx(0.25)
    assert minutes["clicks-50-random"] == pytest.approx(50 * 3.5 / 60, rel=1e-3)
    extra = minutes["tags-20-random"] - minutes["tags"]
    assert extra == pytest.approx(20 * 3.5 / 60, rel=1e-2)
    assert matplotlib.image.imread(tmp_path / "report.png").shape[1] > 1000


def test_means_and_deviations_are_over_seeds():
    rows = [
        {"setting": name, "seed": seed, "minutes": 1.0, "labels": None, "network": value + seed}
        for seed in range(3)
        for name, value in (("truth", 50.0), ("tags", 40.0))
    ]
    tags = tagging_order.summarize(rows)[1]
    assert (tags["network"], tags["network_std"]) == (41.0, 1.0)
    assert (tags["labels"], tags["labels_std"]) == (None, None)
    shares = [100 * (40 + seed) / (50 + seed) for seed in range(3)]
    assert tags["share"] == pytest.approx(np.mean(shares), rel=1e-3)
