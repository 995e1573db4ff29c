"""The time of making rooms is told whole: its stages are there and make up the scene."""

import rooms


def test_the_stages_make_up_a_scene():
    row = rooms.measure("tiny", 0, 2)
    assert row["scenes"] == 2 and row["vertices_per_scene"] > 1000
    assert row["seconds_by_stage"].keys() == rooms.STAGES.keys()
    total = sum(row["seconds_by_stage"].values())
    assert 0.7 < total / row["seconds_per_scene"]["mean"] < 1.02
