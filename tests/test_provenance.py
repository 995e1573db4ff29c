"""What made a result goes with it."""

import subprocess

import pytest

from mprm_jax import provenance
from mprm_jax.provenance import commit, made_by


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        (tmp_path / "file").write_text("1", encoding="utf-8")
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path)
    return tmp_path


def test_a_checkout_is_named_by_its_commit_and_whether_it_was_changed(checkout):
    name = commit()
    assert len(name) == 12
    (checkout / "file").write_text("2", encoding="utf-8")
    assert commit() == f"{name}-dirty"


def test_without_a_checkout_or_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit() == ""
    monkeypatch.setattr(provenance, "_CHECKOUT", checkout / "elsewhere")
    assert commit() == ""


def test_facts_name_versions_source_machine_and_devices():
    facts = made_by("2 x cpu")
    assert {"mprm_jax", "source of mprm_jax", "jax", "python", "processor"} <= facts.keys()
    assert facts["devices"] == "2 x cpu" and "devices" not in made_by()
