"""Ways to find the points of balls are timed over the same balls."""

import balls


def test_each_way_is_timed_over_the_same_balls(tmp_path):
    files = [balls.write_scene(tmp_path, "tiny", index) for index in (0, 8)]
    rows = balls.measure(files, 5)
    assert len({row["way"] for row in rows}) == 3
    assert len({(row["scenes"], row["balls"], row["voxels_per_ball"]) for row in rows}) == 1
    assert min(row["balls_per_s"] for row in rows) > 0 and rows[0]["voxels_per_ball"] > 0


def test_scenes_beyond_a_size_are_of_another_seed(tmp_path):
    first, again = (balls.write_scene(tmp_path, "tiny", index) for index in (0, 7))
    assert first.read_bytes() != again.read_bytes()
