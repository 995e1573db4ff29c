"""Text tables with and without header, in the separators people use."""

import numpy as np
import pytest
from cloud_files import COLORS, COORDS, LABELS, check_cloud

from mprm_jax.data.formats import read_cloud
from mprm_jax.data.formats.cloud import require_whole_labels


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
    with pytest.raises(ValueError, match=r"a\.xyz: broken table .*row 2.*correct the line"):
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
