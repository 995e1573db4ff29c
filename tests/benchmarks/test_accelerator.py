"""The benchmark for machines that are rented by the minute."""

import json

import accelerator
import cost
import golden
import pytest

TINY = ["--preset", "tiny", "--rows", "2048", "--bucket-rows", "1024"]


def run(monkeypatch, path, *flags):
    monkeypatch.setattr("sys.argv", ["accelerator.py", *TINY, *flags, "--output", str(path)])
    accelerator.main()
    return json.loads(path.read_text(encoding="utf-8"))["measures"]


@pytest.mark.slow
def test_every_part_without_a_peer_gives_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "_RATE_ROWS", 256)
    parts = ["step, lists of the host", "geometry", "forward", "rates", "operations", "losses"]
    rows = run(monkeypatch, tmp_path / "report.json", "--only", *parts)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == rows
    assert {row["part"] for row in rows} == set(parts)
    assert all(row["ms"] > 0 for row in rows if row["part"] not in ("losses", "rates"))
    assert all(row["product_tflop_per_s"] > 0 for row in rows if row["part"] == "rates")
    ours, other = (row["loss"] for row in rows if row["part"] == "losses")
    assert ours == pytest.approx(other, rel=1e-4) == rows[0]["first_loss"]


def test_golden_values_are_met():
    rows = {row["operation"]: row for row in golden.golden_values()}
    assert len(rows) == 7
    for name, row in rows.items():
        # The lattice approximates; float32 sums of the others are off by a few 1e-7 of the largest.
        assert row["error"] < (1.02 * row["error_of_pydensecrf"] + 3e-5 if "CRF" in name else 1e-5)


@pytest.mark.slow
def test_what_would_not_end_in_time_is_left_out_but_for_the_first(tmp_path, monkeypatch, capsys):
    rows = run(monkeypatch, tmp_path / "report.json", "--minutes", "0")
    assert [row["part"] for row in rows] == ["step, lists of the host"]
    assert "geometry: left out, " in capsys.readouterr().err


@pytest.mark.slow
def test_costs_of_a_program_are_those_of_its_modules(tmp_path, monkeypatch):
    path = tmp_path / "cost.json"
    flags = ["--presets", "tiny", "--programs", "train cls", "mine", "--output", str(path)]
    monkeypatch.setattr("sys.argv", ["cost.py", *flags])
    cost.main()
    train, mine = json.loads(path.read_text(encoding="utf-8"))["measures"]
    for row in (train, mine):
        modules = row["modules"].values()
        assert sum(part["mb"] for part in modules) == pytest.approx(1000 * row["gb"], rel=1e-3)
        assert {"encoder/level0_simple", "encoder/level1_block"} <= row["modules"].keys()
    assert train["gflop"] > 2 * mine["gflop"]  # a step has a gradient, too
    assert not mine["collectives"]
