"""Prepared box rooms with their truth, and what poor networks made of them."""

import pytest
from browser import open_browser, why_not
from mined_exports import mined_export
from odd_stores import odd_store
from prepared import make_store


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("tagging"))


@pytest.fixture(scope="session")
def export(store, tmp_path_factory):
    """Scores of a network of the first stage that is often wrong."""
    return mined_export(tmp_path_factory.mktemp("mined") / "export", store)


@pytest.fixture(scope="session")
def predicted(store, tmp_path_factory):
    """Probabilities of a segmentation network that is often wrong."""
    return mined_export(tmp_path_factory.mktemp("mined") / "export", store, predicted=True)


@pytest.fixture(scope="session")
def refined(store, tmp_path_factory):
    """Labels that are mostly right, of an export that calls itself refined."""
    folder = tmp_path_factory.mktemp("mined") / "export"
    return mined_export(folder, store, strength=5.0, refined=True)


@pytest.fixture(scope="session")
def odd(tmp_path_factory):
    """Stores by what they lack, each prepared once."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = odd_store(tmp_path_factory.mktemp("odd"), kind)
        return made[kind]

    return get


@pytest.fixture(scope="session")
def browser():
    """A browser without a window, where one is installed."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    driver = open_browser()
    yield driver
    driver.quit()
