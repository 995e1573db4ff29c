"""`clicks.csv`: what its lines say, and one line for each way to write it wrong."""

import numpy as np
import pytest

from mprm_jax.evidence.clicks import read_clicks
from mprm_jax.evidence.people import Said

HEADER = "scene,x,y,z,class,answer"
CLASSES = ("wall", "floor", "chair")


def write(tmp_path, *lines, header=HEADER):
    path = tmp_path / "clicks.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def read(tmp_path, *lines, header=HEADER):
    return read_clicks(write(tmp_path, *lines, header=header), ["office", "floor1_hall"], CLASSES)


def test_lines_are_read_by_scene_in_order(tmp_path):
    rows = read(
        tmp_path,
        "office,1.5,2,0.25,chair,yes,3.5",
        "floor1/hall.ply,0,0,0,,none,",
        "office,1,1,1,wall,no,2",
        "office,2,2,2,,unsure,1",
        header=HEADER + ",seconds",
    ).rows
    assert [(row.class_name, row.answer) for row in rows["office"]] == [
        ("chair", "yes"),
        ("wall", "no"),
        (None, "unsure"),
    ]
    assert rows["office"][0].point == (1.5, 2.0, 0.25) and rows["office"][0].seconds == 3.5
    assert rows["floor1_hall"][0].answer == "none" and rows["floor1_hall"][0].seconds is None


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("offce,1,1,1,chair,yes", r"line 2 names scene 'offce'.*did you mean 'office'"),
        ("office,1,1,1,chiar,yes", r"line 2 names class 'chiar'.*did you mean 'chair'"),
        ("office,1,1,1,chair,ja", r"line 2 has the answer 'ja'; valid are yes, no, none, unsure"),
        ("office,1,one,1,chair,yes", r"line 2 has x, y, z '1', 'one', '1'; write three numbers"),
        ("office,1,inf,1,chair,yes", r"write three numbers"),
        ("office,1,1,1,,yes", r"line 2 names class ''"),
        ("office,1,1,1,chair,none", r"answers 'none' and names class 'chair'; leave the class"),
    ],
)
def test_a_wrong_line_is_one_line(tmp_path, line, error):
    with pytest.raises(ValueError, match=error):
        read(tmp_path, line)


@pytest.mark.parametrize(
    ("header", "error"),
    [("scene,x,y,z,class", "no column 'answer'"), (HEADER + ",color", "column 'color' is unknown")],
)
def test_wrong_columns_are_one_line(tmp_path, header, error):
    line = ",".join(["office", "1", "1", "1", "chair", "yes", "red"][: header.count(",") + 1])
    with pytest.raises(ValueError, match=f"{error}; write the header '{HEADER}'"):
        read(tmp_path, line, header=header)


def test_clicks_become_sets(tmp_path):
    write(
        tmp_path,
        "office,1000,2000,0,chair,yes",
        "office,0,0,0,wall,no",
        "office,0,0,0,,none",
        "office,0,0,0,,unsure",
    )
    clicks = Said(tmp_path, ["office"], CLASSES, scale=0.001).clicks(
        "office", None, np.array([[1.0, 2, 0], [0, 0, 0]])
    )
    np.testing.assert_allclose(clicks.points[0], [1, 2, 0])
    assert clicks.allowed.tolist() == [[0, 0, 1], [0, 1, 1], [0, 0, 0]]
    assert clicks.certain.tolist() == [True, False, True]


def test_the_time_of_an_answer_and_what_nobody_knew_change_nothing(tmp_path):
    write(tmp_path, "office,1,1,1,chair,yes", "floor1_hall,1,1,1,,unsure")
    before = Said(tmp_path, ["office", "floor1_hall"], CLASSES)
    assert before.names() == {"office"} and before.clicks("floor1_hall", None, None) is None
    write(tmp_path, "office,1,1,1,chair,yes,9", header=HEADER + ",seconds")
    after = Said(tmp_path, ["office"], CLASSES)
    assert before.digest("office") == after.digest("office") != ""


def test_clicks_without_a_list_of_classes_are_one_line(tmp_path):
    write(tmp_path, "office,1,1,1,chair,yes")
    with pytest.raises(ValueError, match=r"clicks\.csv: nothing says which classes there are"):
        Said(tmp_path, ["office"], None)


def test_clicks_that_contradict_each_other_are_named(tmp_path, caplog):
    write(
        tmp_path,
        "office,0,0,0,,none",
        "office,0,0,0.01,wall,yes",
        "office,1,0,0,wall,yes",
        "office,1,0,0,wall,no",
        "office,2,0,0,wall,no",
        "office,2,0,0,floor,no",
        "office,2,0.1,0,chair,yes",
    )
    coords = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    Said(tmp_path, ["office"], CLASSES).clicks("office", None, coords)
    said = [record.getMessage().split(": ")[1].split(";")[0] for record in caplog.records]
    assert sorted(said) == [f"lines {i} and {j} contradict each other" for i, j in [(2, 3), (4, 5)]]
