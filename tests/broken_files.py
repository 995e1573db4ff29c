"""Breaks files, and looks for what a command that stopped may have left."""


def assert_nothing_is_begun(tmp_path):
    """No work directory, no store that looks complete, nothing half-written."""
    found = {path.name for path in tmp_path.rglob("*")}
    assert not found & {"run", "runs", "manifest.json", "config.json"}
    assert not [name for name in found if name.startswith(".")]


def cut(path, size=-100):
    path.write_bytes(path.read_bytes()[:size])
