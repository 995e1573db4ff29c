"""The range of colors is told from all values of a scan, never from one, and is said."""

import numpy as np
import pytest
from cloud_files import write_ply

from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.colors import to_uint8_colors

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (200, 3))
COORDS = np.round(RNG.uniform(0, 3, (200, 3)), 3)


def converted(colors):
    found, notes = to_uint8_colors("a.ply", colors, COORDS[: len(colors)])
    return found, {note.text: note.count for note in notes}


def with_one(colors, value):
    changed = np.array(colors)
    changed[7, 1] = value
    return changed


@pytest.mark.parametrize("value", [256, 300, 4000])
@pytest.mark.parametrize("kind", [float, np.int64, np.uint16])
def test_one_value_above_255_does_not_make_16_bits(value, kind):
    found, notes = converted(with_one(COLORS, value).astype(kind))
    np.testing.assert_array_equal(found, with_one(COLORS, 255))
    assert notes == {
        "colors are taken for 8 bits": 0,
        "{count} color values beyond 8 bits are clipped": 1,
    }


@pytest.mark.parametrize("value", [1.02, 1.9, -0.03, 37.0])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_that_overshoot_1_stay_in_the_unit_range(value, kind):
    found, notes = converted(with_one(COLORS / 255, value).astype(kind))
    np.testing.assert_array_equal(found, with_one(COLORS, 255 if value > 1 else 0))
    assert notes["{count} color values beyond [0, 1] are clipped"] == 1


@pytest.mark.parametrize("factor", [256, 257])
def test_16_bits_are_recognized_although_zeros_and_a_dark_value_are_there(factor):
    colors = with_one(COLORS * factor, 9)
    colors[:20] = 0
    found, notes = converted(colors.astype(np.uint16))
    np.testing.assert_array_equal(found, colors // 256)
    assert notes == {"colors are taken for 16 bits": 0}


def test_dark_averages_of_8_bits_are_not_taken_for_fractions():
    colors = np.zeros((200, 3))
    colors[:10] = RNG.uniform(2, 60, (10, 3))
    found, _ = converted(colors)
    np.testing.assert_array_equal(found, np.round(colors))


def test_whole_numbers_of_integer_type_up_to_1_are_dark():
    np.testing.assert_array_equal(converted(COLORS // 200)[0], COLORS // 200)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_colors_that_are_all_zero_are_pointed_out(kind):
    found, notes = converted(np.zeros((200, 3), kind))
    assert not found.any()
    assert len(notes) == 1 and next(iter(notes)).startswith("all colors are 0")


@pytest.mark.parametrize("colors", [COLORS - 300, COLORS / 255 - 0.5, with_one(COLORS, 70000)])
def test_what_is_no_color_is_refused(colors):
    with pytest.raises(
        ValueError,
        match=r"a\.ply: colors outside 0\.\.255; .*such as normals",
    ):
        converted(colors)


@pytest.mark.parametrize("suffix", [".xyz", ".npy", ".npz", ".ply", ".csv"])
@pytest.mark.parametrize("value", [256, 1.02])
def test_every_reader_goes_by_the_same_rule(tmp_path, suffix, value):
    path = tmp_path / f"a{suffix}"
    colors = with_one(COLORS if value > 2 else COLORS / 255, value)
    table = np.column_stack([COORDS, colors])
    names = ["x", "y", "z", "red", "green", "blue"]
    if suffix == ".npy":
        np.save(path, table)
    elif suffix == ".npz":
        np.savez(path, xyz=COORDS, rgb=colors.astype(np.float32))
    elif suffix == ".ply":
        write_ply(path, np.rec.fromarrays(table.T, dtype=[(name, "<f4") for name in names]))
    else:
        header = ",".join(names) if suffix == ".csv" else ""
        np.savetxt(path, table, delimiter="," if header else " ", header=header, comments="")
    cloud = read_cloud(path)
    np.testing.assert_array_equal(cloud.colors, with_one(COLORS, 255))
    assert sum(note.count for note in cloud.notes) == 1
