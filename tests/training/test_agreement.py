"""Hosts decide together: the largest wish comes back two steps later, at every host the same."""

import jax
import pytest

from mprm_jax.training.agreement import INTERRUPT, NOTHING, SAVE, SIGNALS, TERMINATE, Agreement
from mprm_jax.training.forecast import counted_compiles
from mprm_jax.training.parallel import make_mesh


@pytest.fixture
def agreement(monkeypatch):
    """That of a host which takes part in the exchange; here it hears only itself."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    found = Agreement(make_mesh(jax.local_devices()))
    monkeypatch.undo()
    return found


def test_a_host_alone_gets_its_wish_at_once():
    alone = Agreement(make_mesh())
    assert [alone.decide(wish) for wish in (NOTHING, SAVE, TERMINATE)] == [NOTHING, SAVE, TERMINATE]


def test_a_wish_comes_back_two_steps_later(agreement):
    wishes = (SAVE, NOTHING, TERMINATE, NOTHING, NOTHING)
    assert [agreement.decide(wish) for wish in wishes] == [
        *(NOTHING, NOTHING),
        *(SAVE, NOTHING, TERMINATE),
    ]


def test_asking_compiles_once(agreement):
    agreement.decide(NOTHING)
    with counted_compiles("") as compiled:
        for wish in (NOTHING, SAVE, INTERRUPT, TERMINATE):
            agreement.decide(wish)
    assert not compiled


def test_asking_moves_nothing_unasked(agreement):
    with jax.transfer_guard("disallow"):
        assert [agreement.decide(SAVE) for _ in range(3)] == [NOTHING, NOTHING, SAVE]


def test_stopping_outranks_saving():
    assert NOTHING < SAVE < min(SIGNALS.values())
