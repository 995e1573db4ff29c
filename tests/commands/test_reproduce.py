"""The report: jobs in a working order, numbers over seeds, blanks for what is not measured."""

import json
import pathlib
import sys

import pytest
from prepared import make_store

from mprm_jax.commands import reproduce
from mprm_jax.commands.jobs import DURATIONS_FILE, Job, durations, run_job, run_timed
from mprm_jax.commands.reproduction import report
from mprm_jax.commands.reproduction.jobs import (
    FUSIONS,
    GROUPS,
    Setting,
    claim,
    is_report_of,
    make_jobs,
)
from mprm_jax.commands.reproduction.ladder import COST, ladder_jobs
from mprm_jax.commands.reproduction.render import (
    Heading,
    Picture,
    Table,
    Text,
    to_html,
    to_markdown,
)
from mprm_jax.commands.reproduction.report import command, write_report
from mprm_jax.commands.reproduction.tables import (
    PAPER,
    Results,
    class_table,
    cost_table,
    coverage,
    label_table,
    ladder_table,
    over_seeds,
    path_table,
    rule_table,
    supervision_table,
    tag_table,
    validation_table,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data"))


def setting_of(root):
    return Setting(root, "rooms:tiny", "tiny", pathlib.Path("prepared/x"), None, ())


def put(root, file, values):
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def rows_of(blocks):
    """The rows of the one table among some blocks, by their first cell."""
    (table,) = [block for block in blocks if isinstance(block, Table)]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def jobs_of(setting, seeds, groups):
    """All jobs of some groups, as the command puts them together."""
    jobs = make_jobs(setting, seeds, groups)
    if "ladder" in groups:
        jobs += [job for seed in seeds for job in ladder_jobs(setting, seed, epochs=2)]
    return jobs


def places(job, *flags):
    """What some flags of a command name."""
    found = [flag for flag in flags if flag in job.command]
    return {pathlib.Path(job.command[job.command.index(flag) + 1]) for flag in found}


@pytest.mark.parametrize("groups", [GROUPS, ["paths"], ["retraining"], ["ladder"]])
def test_every_job_finds_what_it_needs_made_before(tmp_path, groups):
    setting, made = setting_of(tmp_path), {pathlib.Path("truth")}
    made.add(setting.store)
    for job in jobs_of(setting, range(2), groups):
        makes_workdir = job.command[3] in ("train", "rounds")
        own = places(job, "--workdir") if makes_workdir else set()
        needed = places(job, "--export", "--pseudo-labels", "--workdir", "--labels", "--store")
        for place in needed - own:
            assert {place, *place.parents} & made, job.command
        made |= own | {job.result.parent, job.result.with_suffix("")} | places(job, "--prepared")
    made.discard(tmp_path)
    assert len(made) > 20


def test_all_networks_of_the_ladder_learn_as_long(tmp_path):
    jobs = ladder_jobs(setting_of(tmp_path), 0, epochs=2)
    trainings = [job for job in jobs if job.command[3] == "train"]
    epochs = [[x for x in job.command if x.startswith("optim.epochs")] for job in trainings]
    assert [
        job.result.parent.name for job, found in zip(trainings, epochs, strict=True) if found
    ] == ["long-round2-0", "long-clicks-0", "long-truth-0"]
    assert {tuple(found) for found in epochs} == {(), ("optim.epochs=6",)}
    assert all("--anew" in job.command for job in jobs if job.command[3] == "rounds")


def test_the_ladder_compares_with_point_labels_over_the_classes_that_occur(tmp_path):
    put(tmp_path, "ladder/crf-0.json", {"after": {"miou_occurring": 49.0, "accuracy": 84.0}})
    for name, miou in (("ladder/seg-crf-0", 40.0), ("seg/truth-0", 50.0)):
        bare = {"miou": 1.0, "miou_occurring": miou, "iou": [10.0]}
        put(tmp_path, f"{name}.json", {"columns": {"voxels without tags": bare}})
    put(tmp_path, "cls/MPRM-subcloud-0/results.json", {"classes": ["wall"], "measures": {}})
    tables = [x for x in ladder_table(Results(tmp_path, [0])) if isinstance(x, Table)]
    rows = {row[0]: row[1:] for row in tables[0].rows}
    assert rows["+ dense CRF as released"] == [
        *("49.0 (1 seed)", "84.0 (1 seed)", "", "", "40.0 (1 seed)", "", "80 %")
    ]
    assert rows["point labels"][-1] == "100 %" and rows["point labels"][0] == ""
    assert tables[2].rows[0][1] == "10.0 (1 seed)"


def test_jobs_do_not_share_results_unless_they_are_the_same(tmp_path):
    jobs = jobs_of(setting_of(tmp_path), range(3), GROUPS)
    by_result = {job.result: job for job in jobs}
    assert all(by_result[job.result] == job for job in jobs)


def test_one_group_runs_only_what_it_needs(tmp_path):
    titles = [job.title for job in make_jobs(setting_of(tmp_path), [0], ["tags"])]
    assert titles == ["tag statistics"]
    labels = make_jobs(setting_of(tmp_path), [0], ["labels"])
    assert not [job for job in labels if "seg" in job.title]
    paths = make_jobs(setting_of(tmp_path), [0], ["paths"])
    assert [job.title for job in paths][:2] == ["train cls/MPRM-subcloud-0", "CRF MPRM-subcloud-0"]
    assert not [job for job in paths[2:] if not job.title.startswith("export")]


def test_a_job_keeps_what_its_command_prints(tmp_path):
    command = (sys.executable, "-c", "print('{\"a\": 1}')")
    run_job(Job("prints", command, tmp_path / "new" / "a.json", True))
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"a": 1}


def test_what_a_job_says_does_not_mix_with_the_json_of_the_command_that_runs_it(tmp_path, capfd):
    noisy = (sys.executable, "-c", f"print('learning'); open({str(tmp_path / 'a.json')!r}, 'w')")
    run_job(Job("says", noisy, tmp_path / "a.json", False))
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "learning\n")


def test_how_long_a_job_took_is_noted(tmp_path):
    assert durations(tmp_path) == {}
    nap = (sys.executable, "-c", "import time; time.sleep(0.2); print(1)")
    for _ in range(2):
        run_timed(Job("naps", nap, tmp_path / "new" / "a.json", True), tmp_path)
    assert durations(tmp_path).keys() == {"new/a.json"}
    assert durations(tmp_path)["new/a.json"] >= 0.2


@pytest.mark.parametrize("text", ['{"resu', "[]\n", '{"result": "a.json"}\n'])
def test_damaged_notes_of_durations_are_one_line(tmp_path, text):
    (tmp_path / DURATIONS_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"durations\.jsonl: damaged .*; delete it"):
        durations(tmp_path)


def test_the_cost_of_the_ladder_is_of_seeds_that_have_all_of_it(tmp_path):
    jobs = {job.result for job in ladder_jobs(setting_of(tmp_path), 0, epochs=2)}
    files = [file.format(seed=0) for of_part in COST.values() for file in of_part]
    assert {tmp_path / file for file in files} <= jobs
    lines = [{"result": file, "seconds": 60.0} for file in files if "clicks-0-20" not in file]
    (tmp_path / DURATIONS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    put(tmp_path, "cls/MPRM-subcloud-0/results.json", {"classes": ["wall"], "measures": {}})
    table = [x for x in ladder_table(Results(tmp_path, [0])) if isinstance(x, Table)][-1]
    minutes = dict(table.rows)
    assert minutes["CRF that sees normals"] == "1.0 (1 seed)"
    assert [what for what, found in minutes.items() if not found] == [
        what for what in COST if "clicks" in what
    ]


def test_a_damaged_log_of_a_run_is_one_line(tmp_path):
    place = tmp_path / "seg" / "truth-0"
    put(tmp_path, "seg/truth-0/results.json", {"seconds": 60, "devices": "2 x cpu"})
    (place / "metrics.jsonl").write_text('{"loss": 1}\n{"lo', encoding="utf-8")
    with pytest.raises(ValueError, match=r"truth-0/metrics\.jsonl: damaged .*; delete it"):
        cost_table(Results(tmp_path, [0]))


def test_a_failed_job_is_named_and_leaves_no_result(tmp_path):
    job = Job("breaks", (sys.executable, "-c", "raise SystemExit(3)"), tmp_path / "a.json", True)
    with pytest.raises(ValueError, match="breaks failed with status 3"):
        run_job(job)
    assert not job.result.exists()


def test_spread_is_mean_and_sample_deviation():
    assert over_seeds([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
    assert over_seeds([4.0]) == "4.0 (1 seed)"
    assert over_seeds([]) == ""


def test_labels_are_summed_up_over_the_seeds_that_are_done(tmp_path):
    for seed, miou in ((0, 40.0), (1, 44.0)):
        measures = {"calibrated": {"miou": miou}, "raw": {"miou": 20.0}}
        found = {"classes": ["wall"], "measures": measures}
        put(tmp_path, f"cls/MPRM-subcloud-{seed}/results.json", found)
    put(tmp_path, "crf/MPRM-subcloud-0.json", {"after": {"miou": 50.0}})
    row = rows_of(label_table(Results(tmp_path, range(3)), True))["MPRM, subcloud tags"]
    assert row["calibrated"] == "42.0 ± 2.8"
    assert row["calibrated + CRF"] == "50.0 (1 seed)"
    assert row["random allowed class"] == ""
    assert row["paper"] == "46.6, CRF 47.4"


def test_the_share_of_full_supervision_is_that_of_the_means(tmp_path):
    for seed in range(2):
        for target, miou in (("crf", 30.0 + seed), ("truth", 61.0)):
            columns = {"voxels without tags": {"miou": miou}, "voxels with tags": {"miou": 70.0}}
            put(tmp_path, f"seg/{target}-{seed}.json", {"columns": columns})
    rows = rows_of(supervision_table(Results(tmp_path, range(2)), True))
    assert rows["share reached by tags"]["ours"] == "50 %"
    assert rows["share reached by tags"]["paper, hidden test"] == "60 %"
    val = rows_of(validation_table(Results(tmp_path, range(2)), False))["fully supervised"]
    assert (val["with tags"], val["without tags"]) == ("70.0 ± 0.0", "61.0 ± 0.0")


def test_networks_that_need_tags_have_no_number_without(tmp_path):
    rows = rows_of(validation_table(Results(tmp_path, [0]), True))
    assert rows["MPRM"]["without tags"] == "needs tags"
    assert rows["fully supervised"]["without tags"] == ""


def test_the_papers_numbers_are_complete():
    assert set(PAPER["paths"]) == set(FUSIONS)
    assert {len(x) for x in PAPER["class_frequency"].values()} == {20}


def test_paths_and_tags_have_rows(tmp_path):
    put(tmp_path, "paths/all-sum-val-0.json", {"measure": {"miou": 12.0}})
    assert rows_of(path_table(Results(tmp_path, [0]), False))["all, sum"]["val"] == "12.0 (1 seed)"
    tags = {"scenes": 2, "subclouds": 9, "scene": {"wall": 99.0}, "subcloud": {"wall": 80.0}}
    put(tmp_path, "tags.json", tags)
    row = rows_of(tag_table(Results(tmp_path, [0]), True))["wall"]
    assert list(row.values()) == ["wall", "99.0", "80.0", "97.3", "77.6"]


def test_markdown_and_html_say_the_same():
    blocks = [Heading("A & B", 1), Text("x < y"), Table(["a"], [["1|2"]]), Picture("p.png", "p")]
    assert to_markdown(blocks) == (
        "# A & B\n\nx < y\n\n| a |\n| --- |\n| 1\\|2 |\n\n![p](p.png)\n\n*p*\n"
    )
    page = to_html(blocks)
    for part in ("<h1>A &amp; B</h1>", "<p>x &lt; y</p>", "<td>1|2</td>", 'src="p.png"'):
        assert part in page


def test_a_report_of_next_to_nothing_is_blank_but_complete(store, tmp_path):
    setting = setting_of(tmp_path / "root")
    jobs = make_jobs(setting, range(3), GROUPS)
    put(setting.root, "val/MPRM-CRF-1.json", {"after": {"miou": 50.0}})
    path = write_report(setting, store, range(3), jobs)
    text = path.read_text()
    for number in range(1, 6):
        assert f"Table {number}" in text
    assert (tmp_path / "root" / "report.html").read_text().startswith("<!doctype html>")
    numbers = json.loads((tmp_path / "root" / "report.json").read_text())
    assert numbers["jobs"] == {"val/MPRM-CRF-1.json": {"after": {"miou": 50.0}}}
    assert numbers["tables"]["Table 4: validation split"][3][:2] == ["MPRM, CRF", "50.0 (1 seed)"]


def test_the_report_names_no_folder_of_the_machine(store, tmp_path):
    setting = setting_of(tmp_path / "root")
    places = {
        "directory": str(setting.root / "crf" / "MPRM"),
        "store": str(setting.store.absolute()),
    }
    put(setting.root, "tags.json", places)
    write_report(setting, store, range(1), make_jobs(setting, range(1), ["tags"]))
    text = (setting.root / "report.json").read_text()
    assert json.loads(text)["jobs"] == {
        "tags.json": {"directory": "crf/MPRM", "store": setting.store.name}
    }
    assert str(tmp_path) not in text


def test_a_work_directory_keeps_to_one_setting_and_data(store, tmp_path):
    setting = setting_of(tmp_path / "root")
    claim(setting, store)
    claim(setting._replace(devices=2), store)
    with pytest.raises(ValueError, match=r"setting\.json: the results there are of other preset;"):
        claim(setting._replace(preset="quick"), store)
    with pytest.raises(ValueError, match="of other settings; choose another --workdir"):
        claim(setting._replace(overrides=("seg.radius=1",)), store)
    other = make_store(tmp_path / "other", num_train=2)
    with pytest.raises(ValueError, match="of other data; choose another --workdir"):
        claim(setting, other)


def test_a_report_is_known_by_its_scans_or_by_what_was_prepared(tmp_path, store):
    setting = setting_of(tmp_path / "run")
    assert is_report_of(setting.root, store) is None
    claim(setting, store)
    other = make_store(tmp_path / "other", num_train=2)
    assert is_report_of(setting.root, store) is True
    assert is_report_of(setting.root, other) is False


def test_trainings_use_the_store_that_was_named(tmp_path):
    named = setting_of(tmp_path)._replace(own_store=True)
    jobs = [job for job in make_jobs(named, [0], GROUPS) if job.title.startswith("train")]
    assert jobs and all("--store" in job.command for job in jobs)
    assert "--store" not in make_jobs(setting_of(tmp_path), [0], ["labels"])[0].command


def test_the_report_says_which_command_made_it(tmp_path):
    setting = setting_of(tmp_path)._replace(overrides=("data.labels=scene",))
    assert command(setting, range(2)) == (
        "python experiments/reproduce.py --data rooms:tiny --preset tiny --seeds 2 "
        "--set data.labels=scene"
    )


def test_rules_for_tags_have_rows(tmp_path):
    put(tmp_path, "rules/ball-none-0.json", {"measure": {"miou": 12.0}})
    row = rows_of(rule_table(Results(tmp_path, [0])))["those of any of its balls"]
    assert list(row.values())[1:] == ["", "12.0 (1 seed)"]


def test_a_class_that_does_not_occur_is_told_from_one_not_measured(tmp_path):
    found = {"classes": ["wall", "sink"], "measures": {"calibrated": {"iou": [50.0, None]}}}
    put(tmp_path, "cls/MPRM-subcloud-0/results.json", found)
    rows = rows_of(class_table(Results(tmp_path, [0])))
    assert (rows["wall"]["MPRM"], rows["sink"]["MPRM"]) == ("50.0 (1 seed)", "–")
    assert rows["sink"]["PCAM"] == rows["sink"]["MPRM + CRF"] == ""


def test_a_mean_says_over_how_many_classes_it_goes():
    assert coverage([9, 16], [12], of=20) == "9 to 16 of 20"
    assert coverage([16, 16], of=20) == "16 of 20"
    assert coverage([], of=20) == ""


def test_the_report_lists_the_settings_of_both_stages(store, tmp_path):
    setting = setting_of(tmp_path)._replace(overrides=("optim.momentum=0.7",))
    write_report(setting, store, [0], [])
    assert "| optim.momentum | 0.7 | 0.7 |" in (tmp_path / "report.md").read_text()


class Seeds:
    """Stands in for the commands of jobs: notes them, and fails where it is told to."""

    def __init__(self, breaks_at=""):
        self.done, self._breaks_at = [], breaks_at

    def __call__(self, job, folder):
        if self._breaks_at and self._breaks_at in job.title:
            raise ValueError(f"{job.title} failed")
        self.done.append(job.title)
        job.result.parent.mkdir(parents=True, exist_ok=True)
        job.result.write_text("{}")


@pytest.fixture
def seeds(monkeypatch):
    """Jobs that do nothing; a report of them is not written."""
    monkeypatch.setattr(report, "write_report", lambda setting, *_: setting.root / "report.md")

    def work(breaks_at=""):
        stand_in = Seeds(breaks_at)
        monkeypatch.setattr(reproduce, "run_timed", stand_in)
        return stand_in

    return work


@pytest.mark.parametrize("parallel", [1, 2])
def test_seeds_are_worked_on_one_by_one_or_together(script, seeds, store, parallel):
    seeds = seeds()
    flags = ["--data", f"store:{store.path}", "--preset", "tiny", "--seeds", 2, "--workdir", "out"]
    flags += ["--set", "data.sphere_radius=1.2", "--only", "tags", "labels"]
    ended = script(reproduce.main, *flags, "--parallel", parallel)
    assert ended.status == 0, ended.err
    assert len(seeds.done) == len(set(seeds.done)) == 1 + 2 * 8
    if parallel == 1:
        assert [title[-1] for title in seeds.done[1:]] == ["0"] * 8 + ["1"] * 8
    assert "[" not in script(reproduce.main, *flags).out  # all is done


def test_a_job_that_fails_ends_the_others_after_what_they_are_at(script, seeds, store):
    seeds = seeds(breaks_at="cls/MPRM-scene-0")
    flags = ["--data", f"store:{store.path}", "--preset", "tiny", "--seeds", 9, "--workdir", "out"]
    flags += ["--set", "data.sphere_radius=1.2", "--only", "labels", "--parallel", 1]
    with pytest.raises(ValueError, match="train cls/MPRM-scene-0 failed"):
        script(reproduce.main, *flags)
    assert not [title for title in seeds.done if title.endswith("8")]
