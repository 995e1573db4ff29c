"""Signals become a request to stop; a second one of the same kind acts as usual."""

import os
import signal
import threading

import pytest

from mprm_jax.training import signals
from mprm_jax.training.signals import StopRequest


@pytest.fixture(autouse=True)
def interrupts_raise():
    """As in a terminal; a shell starts commands in the background deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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


def test_the_echo_of_a_termination_is_the_same_request():
    """`timeout` sends SIGTERM to its child, and at once to the group that the child is in."""
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signal == "SIGTERM"


def test_a_later_termination_acts_as_usual(monkeypatch):
    monkeypatch.setattr(signals, "_ECHO_SECONDS", 0.0)
    received = []
    before = signal.signal(signal.SIGTERM, lambda kind, _: received.append(kind))
    try:
        with StopRequest():
            os.kill(os.getpid(), signal.SIGTERM)
            assert not received
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_waiting_finds_a_signal_that_is_on_its_way():
    with StopRequest() as stop:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert stop.wait()


def test_waiting_without_a_signal_ends(monkeypatch):
    monkeypatch.setattr(signals, "_ECHO_SECONDS", 0.05)
    with StopRequest() as stop:
        assert not stop.wait()
