"""Memory of a step is kept by the process where the C library allows it."""

import platform

import pytest

from mprm_jax.machine import keep_heap


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_glibc_accepts_the_settings():
    assert keep_heap()


def test_another_system_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert not keep_heap()
