"""Signals become a request to stop; a second one of the same kind acts as usual."""

import os
import signal

import pytest

from mprm_jax.training.signals import StopRequest


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_by_name(kind):
    with StopRequest() as stop:
        os.kill(os.getpid(), kind)
        assert stop.signal == kind.name


def test_without_a_signal_nothing_is_noted():
    with StopRequest() as stop:
        pass
    assert stop.signal is None


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_handlers_are_restored(kind):
    before = signal.getsignal(kind)
    with StopRequest():
        os.kill(os.getpid(), kind)
    assert signal.getsignal(kind) is before


def test_handlers_are_restored_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), StopRequest():
        raise RuntimeError("the loop failed")
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_interrupt_interrupts():
    with pytest.raises(KeyboardInterrupt), StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
