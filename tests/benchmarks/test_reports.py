"""What benchmarks write down beside their measures."""

import json

import precision
import processes


def test_a_report_names_its_command_without_folders(tmp_path, monkeypatch):
    flags = ["--peer", "/opt/other/bin/python", "--buckets", "8192", "--set", "seed=1"]
    monkeypatch.setattr("sys.argv", ["/home/me/benchmarks/step.py", *flags])
    processes.write_report(tmp_path / "new" / "report.json", [{"points": 1}])
    report = json.loads((tmp_path / "new" / "report.json").read_text(encoding="utf-8"))
    assert report["command"] == (
        "python benchmarks/step.py --peer python --buckets 8192 --set seed=1"
    )
    assert report["measures"] == [{"points": 1}] and report["machine"]["cores"] >= 1


def test_runs_of_a_type_are_summed_up():
    runs = [{"miou": v, "accuracy": 70.0, "mean_accuracy": 50.0} for v in (40.0, 42.0, 44.0)]
    row = precision.summary("bfloat16", runs)
    assert (row["miou"], row["miou_std"], row["accuracy_std"]) == (42.0, 2.0, 0.0)
    assert precision.summary("float32", runs[:1])["miou_std"] is None
