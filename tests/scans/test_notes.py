"""What readers take for granted is said once for a data set, not once for a file."""

import logging

import numpy as np
import pytest
from prepared import CONFIG
from scan_folders import write_folder, write_scan, write_tags

from mprm_jax.evidence.folder import Folder
from mprm_jax.scans.formats.notes import Note, log_new_notes, log_notes
from mprm_jax.store.prepare import prepare

COUNTED = Note("{count} color values beyond 8 bits are clipped", 3, warns=True)
TAKEN = Note("colors are taken for 8 bits")


def test_one_line_per_text_with_sum_and_example(caplog):
    caplog.set_level(logging.INFO)
    log_notes("scans", {"a": [TAKEN, COUNTED], "b": [COUNTED._replace(count=4)], "c": []})
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "scans: colors are taken for 8 bits (1 of 3 scans, such as a)"),
        ("WARNING", "scans: 7 color values beyond 8 bits are clipped (2 of 3 scans, such as a)"),
    ]


def test_notes_of_files_one_by_one_are_not_repeated_but_warnings_are(caplog):
    caplog.set_level(logging.INFO)
    told = set()
    for file in ("a.ply", "b.ply"):
        log_new_notes(file, [TAKEN, COUNTED], told)
    assert [record.message for record in caplog.records] == [
        "a.ply: colors are taken for 8 bits",
        "a.ply: 3 color values beyond 8 bits are clipped",
        "b.ply: 3 color values beyond 8 bits are clipped",
    ]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_prepare_says_what_its_workers_took_for_granted(tmp_path, caplog, workers):
    caplog.set_level(logging.INFO)
    root = tmp_path / "scans"
    write_folder(root)
    rng = np.random.default_rng(0)
    coords, colors = rng.uniform(0, 3, (300, 3)), rng.integers(0, 256, (300, 3))
    colors[5, 0] = 256
    for name in ("office", "floor1/hall", "lab"):
        write_scan(root / f"{name}.npz", coords, rgb=colors)
    table = np.column_stack([coords, rng.integers(-99, 99, 300), colors])
    np.savetxt(root / "shed.txt", table, "%.3f")
    write_tags(root, "scene,wall,floor", "office,1,0", "lab,1,1", "shed,1,1")
    prepare(Folder(root), tmp_path / "store", CONFIG.data, workers=workers)
    for line in (
        f"{root}: a unit of the scans is taken for 1 m (data.scale)",
        "folder: colors are taken for 8 bits (4 of 4 scans, such as test/floor1_hall)",
        "folder: 4 color values beyond 8 bits are clipped (4 of 4 scans, such as test/floor1_hall)",
        "folder: 7 columns without names are taken for x y z intensity red green blue "
        "(1 of 4 scans, such as train/shed)",
    ):
        assert caplog.text.count(line) == 1
