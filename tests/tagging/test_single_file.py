import base64
import json
import re

import pytest
from served import open_app, read_points, write_rooms

from mprm_jax.errors import UserError
from mprm_jax.tagging import single_file
from mprm_jax.tagging.single_file import points_that_fit, write_single_file


@pytest.fixture
def page(tmp_path):
    write_rooms(tmp_path, classes=("wall", "</script><b>", "<!--"))
    (tmp_path / "broken.ply").write_bytes(b"ply\nnothing")
    app = open_app(tmp_path, max_points=1500, readonly=True, notes=("thinned",))
    write_single_file(app, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def embedded(page):
    return json.loads(re.search(r"window\.EMBEDDED = (.*);</script>", page)[1])


def test_it_holds_what_the_page_would_ask(page):
    answers = embedded(page)
    assert {"api/state", "api/scan/1", "api/scan/1/points/0", "api/scan/2/points/0"} < {*answers}
    coords, _ = read_points(base64.b64decode(answers["api/scan/1/points/0"]))
    assert len(coords) == answers["api/scan/1"]["shown_points"] == 1500
    assert answers["api/state"]["readonly"]
    assert answers["api/state"]["scans"][1]["balls"] == len(answers["api/scan/1"]["balls"])


def test_a_broken_scan_is_named_and_left_out(page):
    answers = embedded(page)
    assert "broken.ply" in answers["api/state"]["scans"][0]["broken"]
    assert "api/scan/0" not in answers


def test_names_of_classes_cannot_end_the_script(page):
    assert "<b>" not in page
    assert page.count("<!--") == 0
    assert embedded(page)["api/state"]["classes"][1]["name"] == "</script><b>"


def test_it_needs_no_other_file_and_no_network(page):
    assert not re.search(r'(src|href)="(?!data:)', page)
    imports = json.loads(re.search(r'type="importmap">(.*?)</script>', page)[1])["imports"]
    for name, address in imports.items():
        kind, _, code = address.partition(",")
        assert kind == "data:text/javascript;base64"
        text = base64.b64decode(code).decode()
        named = re.findall(r"""^(?:import|export)\b[^"';]*?\bfrom\s*["']([^"']+)["']""", text, re.M)
        assert {*named} <= imports.keys(), name
    assert "connect-src" not in page
    assert "default-src 'none'" in page


def test_it_stays_below_its_size(tmp_path, monkeypatch):
    write_rooms(tmp_path, count=60_000)
    monkeypatch.setattr(single_file, "MAX_BYTES", 5_000_000)
    app = open_app(tmp_path, max_points=points_that_fit(2), readonly=True)
    write_single_file(app, tmp_path / "page.html")
    assert 3_000_000 < (tmp_path / "page.html").stat().st_size < 5_000_000


def test_too_many_scans_for_one_file_are_refused():
    assert points_that_fit(1) > 1_000_000
    with pytest.raises(UserError, match="too many for one file"):
        points_that_fit(5000)
