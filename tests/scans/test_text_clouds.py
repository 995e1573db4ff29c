"""Text tables with and without header, in the separators people use."""

import numpy as np
import pytest
from cloud_files import COLORS, COORDS, LABELS, check_cloud

from mprm_jax.scans.formats import read_cloud
from mprm_jax.scans.formats.cloud import require_whole_labels
from mprm_jax.scans.formats.text import is_text_cloud


def rows_of(separator, *columns):
    return "\n".join(separator.join(f"{v:g}" for v in row) for row in np.column_stack(columns))


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ";"])
def test_seven_columns_are_coordinates_colors_and_a_label(tmp_path, separator):
    (tmp_path / "a.txt").write_text(rows_of(separator, COORDS, COLORS, LABELS) + "\n\n")
    check_cloud(read_cloud(tmp_path / "a.txt"))


def test_three_columns_are_coordinates(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS))
    check_cloud(read_cloud(tmp_path / "a.xyz"), colors=False, labels=False)


def test_six_columns_with_colors_up_to_one(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS, np.round(COLORS / 255, 5)))
    check_cloud(read_cloud(tmp_path / "a.xyz"), labels=False)


def test_a_fourth_column_of_fractions_is_no_label(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS, LABELS / 10))
    check_cloud(read_cloud(tmp_path / "a.xyz"), colors=False, labels=False)


@pytest.mark.parametrize(
    ("header", "separator"),
    [("label,x,y,z,R,G,B", ","), ("# label x y z r g b", " "), ("//Label;X;Y;Z;R;G;B", ";")],
)
def test_a_header_names_the_columns(tmp_path, header, separator):
    body = rows_of(separator, LABELS, COORDS, COLORS)
    (tmp_path / "a.csv").write_text(f"\ufeff{header}\n{body}\n", encoding="utf-8")
    check_cloud(read_cloud(tmp_path / "a.csv"))


def test_five_columns_need_a_header(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS, COORDS[:, :2]))
    with pytest.raises(ValueError, match=r"a\.xyz: 5 columns without names; add a first line"):
        read_cloud(tmp_path / "a.xyz")


def test_a_broken_text_line_is_named(tmp_path):
    (tmp_path / "a.xyz").write_text("1 2 3\n4 5\n7 8 9\n")
    with pytest.raises(ValueError, match=r"a\.xyz: broken table .*row 2.*correct the row"):
        read_cloud(tmp_path / "a.xyz")


def test_prose_is_no_cloud(tmp_path):
    (tmp_path / "a.txt").write_text("These scans were made in May.\n")
    with pytest.raises(ValueError, match=r"a\.txt: no line of at least three numbers.*export"):
        read_cloud(tmp_path / "a.txt")


def test_impossible_colors_are_refused(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", COORDS, COLORS.astype(int) - 1))
    with pytest.raises(ValueError, match=r"a\.xyz: colors outside 0\.\.255; export"):
        read_cloud(tmp_path / "a.xyz")


def test_fractional_labels_are_refused_where_labels_count(tmp_path):
    (tmp_path / "a.xyz").write_text("x y z label\n" + rows_of(" ", COORDS, LABELS / 2))
    labels = read_cloud(tmp_path / "a.xyz").labels
    np.testing.assert_array_equal(labels, LABELS / 2)
    with pytest.raises(ValueError, match=r"^a\.xyz: label 1\.5 is not a whole number; rename"):
        require_whole_labels("a.xyz", labels)


RNG = np.random.default_rng(0)
MANY = np.round(RNG.uniform(0, 3, (300, 3)), 3)
COLORED = RNG.integers(0, 256, (300, 3))
LAYOUTS = {
    "intensity of a byte": RNG.integers(0, 256, 300),
    "signed intensity": RNG.integers(-2048, 2048, 300),
    "intensity of 16 bits": RNG.integers(0, 65536, 300),
    "intensity up to 1": RNG.uniform(0, 1, 300),
}


@pytest.mark.parametrize("intensity", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_an_intensity_before_the_colors_is_no_color(tmp_path, suffix, intensity):
    path, table = tmp_path / f"a{suffix}", np.column_stack([MANY, intensity, COLORED])
    if suffix == ".npy":
        np.save(path, table)
    else:
        path.write_text(rows_of(" ", table))
    cloud = read_cloud(path)
    np.testing.assert_array_equal(cloud.colors, COLORED)
    assert cloud.labels is None
    assert cloud.notes[0].text.endswith("taken for x y z intensity red green blue")


@pytest.mark.parametrize("labels", [RNG.integers(-1, 20, 300), np.full(300, 1000)])
@pytest.mark.parametrize("colors", [COLORED, np.round(COLORED / 255, 5), COLORED * 257])
def test_a_label_behind_the_colors_is_a_label(tmp_path, labels, colors):
    (tmp_path / "a.txt").write_text(rows_of(" ", MANY, colors, labels))
    cloud = read_cloud(tmp_path / "a.txt")
    np.testing.assert_array_equal(cloud.colors, COLORED)
    np.testing.assert_array_equal(cloud.labels, labels)
    assert cloud.notes[0].text.endswith("taken for x y z red green blue label")


def test_seven_columns_that_are_neither_ask_for_names(tmp_path):
    (tmp_path / "a.txt").write_text(rows_of(" ", MANY, MANY - 2, MANY[:, 0]))
    with pytest.raises(ValueError, match=r"a\.txt: 7 columns without names, neither .*add a first"):
        read_cloud(tmp_path / "a.txt")


def test_a_fourth_column_of_many_whole_numbers_is_an_intensity(tmp_path):
    (tmp_path / "a.xyz").write_text(rows_of(" ", MANY, np.arange(300)))
    cloud = read_cloud(tmp_path / "a.xyz")
    assert cloud.labels is None
    assert cloud.notes[0].text.endswith("taken for x y z intensity")


@pytest.mark.parametrize(
    "header",
    [
        "Northing,Easting,Elevation,R,G,B",
        "//Northing,Easting,Elevation,R,G,B",
        "Y [m],X [m],Z [m],Red,Green,Blue",
        '"y (m)","x (m)","z (m)","r (0-255)","g (0-255)","b (0-255)",',
    ],
)
def test_headers_in_other_words_order_and_with_units(tmp_path, header):
    end = "," if header.endswith(",") else ""
    rows = rows_of(",", COORDS[:, [1, 0, 2]], COLORS).replace("\n", f"{end}\n")
    (tmp_path / "a.csv").write_text(f"{header}\n{rows}{end}\n")
    check_cloud(read_cloud(tmp_path / "a.csv"), labels=False)


@pytest.mark.parametrize("separator", [",", ";", " "])
def test_a_header_that_names_no_coordinates_is_told_with_its_names(tmp_path, separator):
    header = separator.join(["Rechts", "Hoch", "Höhe", "R", "G", "B"])
    rows = rows_of(separator, COORDS, COLORS)
    (tmp_path / "a.csv").write_text(f"{header}\n{rows}\n", encoding="latin-1")
    with pytest.raises(ValueError, match=r"a\.csv: the header names Rechts, Hoch, .*call the col"):
        read_cloud(tmp_path / "a.csv")
    assert is_text_cloud(tmp_path / "a.csv")  # so that a folder does not pass over it in silence


def test_another_unit_in_the_header_is_pointed_out(tmp_path):
    (tmp_path / "a.csv").write_text("X [mm],Y [mm],Z [mm]\n" + rows_of(",", COORDS * 1000))
    (note,) = read_cloud(tmp_path / "a.csv").notes
    assert note.warns and "x is in mm; only data.scale" in note.text


@pytest.mark.parametrize("separator", [",", ";", ", "])
@pytest.mark.parametrize("header", ["", "x,y,z,r,g,b,\n"])
def test_a_separator_at_the_end_of_lines_adds_no_column(tmp_path, separator, header):
    rows = "".join(f"{row}{separator}\n" for row in rows_of(separator, COORDS, COLORS).split("\n"))
    (tmp_path / "a.csv").write_text(header.replace(",", separator) + rows)
    check_cloud(read_cloud(tmp_path / "a.csv"), labels=False)


@pytest.mark.parametrize("separator", [" ", "\t", ";", "; "])
def test_decimal_commas_are_decimal_points(tmp_path, separator):
    text = rows_of("|", COORDS, COLORS).replace(".", ",").replace("|", separator)
    (tmp_path / "a.txt").write_text(text)
    cloud = read_cloud(tmp_path / "a.txt")
    check_cloud(cloud, labels=False)
    assert "commas inside numbers" in cloud.notes[0].text


def test_of_two_columns_of_one_name_the_first_counts(tmp_path):
    (tmp_path / "a.csv").write_text(
        "x,y,z,Label,label\n" + rows_of(",", COORDS, LABELS, LABELS * 2)
    )
    cloud = read_cloud(tmp_path / "a.csv")
    check_cloud(cloud, colors=False)
    assert cloud.notes[0].warns and "'label'" in cloud.notes[0].text


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_texts_of_any_encoding(tmp_path, encoding):
    text = "# Büro\nx y z\n" + rows_of(" ", COORDS)
    (tmp_path / "a.txt").write_text(text, encoding=encoding)
    check_cloud(read_cloud(tmp_path / "a.txt"), colors=False, labels=False)


def test_numbers_may_be_quoted(tmp_path):
    rows = rows_of(",", COORDS, COLORS).split("\n")
    quoted = ['"' + row.replace(",", '","') + '"' for row in rows]
    (tmp_path / "a.csv").write_text("\n".join(['"x","y","z","r","g","b"', *quoted]))
    check_cloud(read_cloud(tmp_path / "a.csv"), labels=False)
