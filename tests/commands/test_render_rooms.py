"""Pictures of rooms: both views of the same room, in one file per room."""

import matplotlib.image
import numpy as np

from mprm_jax.commands import render_rooms


def test_a_room_is_drawn_in_color_and_by_class(tmp_path, monkeypatch):
    flags = ["--size", "tiny", "--scenes", "0", "2", "--pixels", "60"]
    monkeypatch.setattr("sys.argv", ["render_rooms.py", "--out", str(tmp_path / "out"), *flags])
    render_rooms.main()
    files = sorted(tmp_path.glob("out/*"))
    assert [file.name for file in files] == ["room0000.png", "room0002.png"]
    picture = matplotlib.image.imread(files[0])[..., :3]
    assert picture.shape == (60, 120, 3)
    left, right = picture[:, :60], picture[:, 60:]
    drawn = (left < 1).any(axis=-1)
    np.testing.assert_array_equal(drawn, (right < 1).any(axis=-1))
    assert drawn.mean() > 0.3
    assert np.abs(left - right)[drawn].mean() > 0.05
