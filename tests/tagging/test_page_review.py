"""The page in a browser shows what a run made of the scans, asks, and takes corrections."""

import numpy as np
import pytest
from page_browser import CLASSES, LONE, Page, rows, write_scans
from served import TOKEN, serving

from mprm_jax.config import DataConfig
from mprm_jax.scans.formats import read_cloud
from mprm_jax.tagging.app import App, Wishes
from mprm_jax.tagging.questions import Question
from mprm_jax.tagging.review import Finding
from mprm_jax.tagging.scans_shown import ShownScans
from mprm_jax.tagging.single_file import write_single_file
from mprm_jax.tagging.sources import open_scans

pytestmark = pytest.mark.slow
WALL, FLOOR, CHAIR, TABLE = range(len(CLASSES))
BALL = (0.0, 0.0, 0.0, 2.0)  # a ball of the grid
PLACE = (1.0, 2.0, 0.0)


class Look:
    """What a run made of the two rooms: floor, walls, and the lone point as a chair."""

    confusion = np.eye(len(CLASSES))

    def __init__(self, folder):
        self.folder = folder
        self.questions = {
            "hall": [
                Question("hall", LONE, 0.3, 9.0, (CHAIR, TABLE)),
                Question("hall", PLACE, 0.4, 5.0, (FLOOR, TABLE, WALL)),
            ],
            "office": [Question("office", PLACE, 0.4, 7.0, (TABLE, FLOOR))],
        }
        text = "This ball is tagged with chair, but no voxel in it is labeled so."
        self.findings = {
            "hall": [
                Finding("tag not found", "hall", BALL[:3], 2.0, (CHAIR,), 9.0, text, 0),
                Finding("cannot tell apart", "hall", LONE, 0.3, (CHAIR, TABLE), 3.0, "What?", None),
            ]
        }

    def ball(self, scene, ball):
        return np.array(BALL)

    def layers(self, scene):
        coords = read_cloud(self.folder / f"{scene}.ply").coords
        labels = np.where(coords[:, 2] < 0.01, FLOOR, WALL).astype(np.uint8)
        labels[0] = CHAIR
        return {"pseudo": labels, "confidence": np.full(len(labels), 254, np.uint8)}


@pytest.fixture
def folder(tmp_path):
    write_scans(tmp_path / "scans")
    lines = ["scene,x,y,z,radius,tags,seconds,unsure", "hall.ply,0,0,0,2,wall;chair,3,"]
    (tmp_path / "scans" / "tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "scans"


def open_app(folder, mode, readonly=False, max_points=10**6):
    data = DataConfig()
    source, files = open_scans(f"folder:{folder}", data)
    radius = data.sphere_radius
    wishes = Wishes(f"folder:{folder}", max_points, radius, mode=mode, readonly=readonly)
    return App(ShownScans(source, data), files, wishes, Look(folder))


@pytest.fixture
def review(folder, browser):
    with serving(open_app(folder, "review")) as server:
        page = Page(browser, server.address)
        yield page
        assert page.errors() == []


@pytest.fixture
def ask(folder, browser):
    with serving(open_app(folder, "ask")) as server:
        page = Page(browser, server.address)
        yield page
        assert page.errors() == []


def clicks(folder):
    return [(row.get("class"), row["answer"]) for row in rows(folder, "clicks.csv")]


def color_at(page, point):
    """The color that is drawn at a point of the scan, 0..255."""
    page.settle()
    # Drawn and read in one go: a browser forgets the picture once it has shown it.
    script = """
    const [view, point] = [app.view, arguments[0]];
    view.startPicture(false);
    do view.drawSlice(false); while (view.drawn < view.cloud.total);
    view.present();
    const gl = view.renderer.getContext();
    const box = view.canvas.getBoundingClientRect();
    const [x, y] = view.project(point);
    const pixel = new Uint8Array(4);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.readPixels(Math.floor(x - box.left), Math.floor(box.bottom - y), 1, 1, gl.RGBA,
      gl.UNSIGNED_BYTE, pixel);
    return [...pixel].slice(0, 3);
    """
    return np.array(page.driver.execute_script(script, list(map(float, point))))


def class_color(page, index):
    text = page.ask(f"app.classes[{index}].color")
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)])


def test_a_finding_is_reviewed_and_its_tag_corrected(folder, review):
    assert "Finding 1 of 2" in review.text and "no voxel in it is labeled so" in review.text
    assert "Take chair from this ball" in review.text
    review.type("3")
    assert [row["tags"] for row in rows(folder)] == ["wall"]
    assert "Add chair to this ball" in review.text
    review.type("u")
    assert [row["tags"] for row in rows(folder)] == ["wall;chair"]


def test_a_finding_without_a_ball_gets_a_click_at_its_point(folder, review):
    review.type(" ")
    assert "Finding 2 of 2" in review.text
    review.type("4")
    (row,) = rows(folder, "clicks.csv")
    assert (row["class"], row["answer"]) == ("table", "yes")
    assert np.abs([float(row[axis]) for axis in "xyz"] - np.array(LONE)).max() < 0.001


def test_what_was_looked_at_stays_so_after_a_reload(review):
    review.type(" ")
    review.driver.refresh()
    review.until("window.app && app.mode && app.mode.current")
    assert "Finding 2 of 2" in review.text
    assert review.ask("document.querySelectorAll('#extra .done').length") == 1
    review.driver.execute_script("sessionStorage.clear()")


def test_the_slider_goes_from_the_colors_of_the_scan_to_labels(review):
    review.type("x")
    point = np.array(LONE) - review.ask("app.scan.origin")
    review.driver.execute_script("app.layers.mix(1)")
    review.until("app.view.cloud.chunks[0].painted === 'pseudo'")
    assert np.abs(color_at(review, point) - class_color(review, CHAIR)).max() <= 1
    review.driver.execute_script("app.layers.mix(0)")
    assert np.abs(color_at(review, point) - [255, 160, 160]).max() <= 1


def test_one_class_is_shown_at_a_time(review):
    review.type("x")
    point = np.array(LONE) - review.ask("app.scan.origin")
    review.driver.execute_script("app.layers.mix(1)")
    review.until("app.view.cloud.chunks[0].painted === 'pseudo'")
    review.driver.execute_script(
        "document.querySelector('[aria-label=\"Show only wall\"]').click()"
    )
    assert np.ptp(color_at(review, point)) == 0
    review.driver.execute_script(
        "document.querySelector('[aria-label=\"Show only wall\"]').click()"
    )
    assert np.ptp(color_at(review, point)) > 0


def test_the_confidence_is_a_ramp_of_its_own(review):
    review.type("x")
    point = np.array(LONE) - review.ask("app.scan.origin")
    review.driver.execute_script("app.layers.mix(1); app.layers.choose('confidence')")
    review.until("app.view.cloud.chunks[0].painted === 'confidence'")
    assert np.abs(color_at(review, point) - [253, 234, 69]).max() <= 2


def test_questions_are_answered_one_after_another_across_scans(folder, ask):
    assert "What is this?" in ask.text and "1 of 2" in ask.text
    ask.type("2")  # the second candidate
    ask.type("0")  # none of the classes
    ask.until("app.scan.name === 'office' && app.mode && app.mode.current")
    ask.type("m")
    assert clicks(folder) == [("table", "yes"), (None, "none"), (None, "unsure")]
    assert "No question is left" in ask.message
    (first, *_) = rows(folder, "clicks.csv")
    assert np.abs([float(first[axis]) for axis in "xyz"] - np.array(LONE)).max() < 0.001


def test_a_question_is_skipped_and_an_answer_undone(folder, ask):
    ask.type(" ", "1")
    assert clicks(folder) == [("floor", "yes")]
    ask.until("app.scan.name === 'office' && app.mode && app.mode.current")
    ask.type("u")
    ask.until("app.scan.name === 'hall' && app.mode && app.mode.current")
    assert clicks(folder) == []
    assert ask.ask("app.mode.current.id") == 1


def test_every_class_has_a_key_of_its_own_in_a_question(folder, browser):
    def keys(page):
        script = """[...document.querySelectorAll('.class')].map((x) =>
          [x.dataset.class, x.querySelector('kbd')?.textContent ?? ''])"""
        return dict(page.ask(script))

    with serving(open_app(folder, "ask")) as server:
        page = Page(browser, server.address)
        assert keys(page) == {"chair": "1", "table": "2", "wall": "3", "floor": "4"}
        page.type("4")
        assert clicks(folder) == [("floor", "yes")]
    names = [*CLASSES, *(f"kind {i}" for i in range(16))]
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    with serving(open_app(folder, "ask")) as server:
        page = Page(browser, server.address)
        found = keys(page)
        assert len({*found.values()} - {"", "0"}) == len(names)
        assert found["kind 7"] == page.ask("app.classes[11].key") == "b"
        assert page.errors() == []


def test_saved_is_said_of_the_last_thing_only(ask):
    ask.type("1")
    assert ask.message == "Saved."
    ask.type(" ")
    assert ask.message == ""


def test_answered_questions_are_not_asked_again(folder, ask):
    ask.type("1")
    ask.driver.refresh()
    ask.until("window.app && app.mode && app.mode.current")
    assert ask.ask("app.mode.current.id") == 1


def test_one_file_shows_the_review_and_saves_nothing(folder, browser, tmp_path):
    before = rows(folder)
    file = tmp_path / "review.html"
    write_single_file(open_app(folder, "review", readonly=True), file)
    page = Page(browser, file.as_uri())
    assert "Finding 1 of 2" in page.text and "This page is for looking only." in page.text
    page.type("x")
    page.driver.execute_script("app.layers.mix(1)")
    page.until("app.view.cloud.chunks[0].painted === 'pseudo'")
    point = np.array(LONE) - page.ask("app.scan.origin")
    assert np.abs(color_at(page, point) - class_color(page, CHAIR)).max() <= 1
    page.type("3")
    assert page.errors() == []
    assert rows(folder) == before


def title(page):
    return page.ask("document.getElementById('task-title').textContent.trim()")


def test_one_file_asks_for_nothing_that_cannot_be_done(folder, browser, tmp_path):
    file = tmp_path / "review.html"
    write_single_file(open_app(folder, "review", readonly=True), file)
    page = Page(browser, file.as_uri())
    assert "points of each scan" not in page.text
    for tab in ("Review", "Ask", "Balls"):
        page.button(tab)
        assert "Next" in page.text and "Back" in page.text
        for word in (
            "Undo",
            "Save,",
            "Say ",
            "Tick ",
            "Looked",
            "Not sure",
            "None of",
            "new class",
        ):
            assert word not in page.text
    for key in ("u", "s", "c", "n", "m", "1"):
        page.type(key)
        assert "Ball 1" in title(page)
    assert page.errors() == []


def test_one_file_is_looked_through_by_keyboard(folder, browser, tmp_path):
    file = tmp_path / "review.html"
    write_single_file(open_app(folder, "review", readonly=True), file)
    page = Page(browser, file.as_uri())
    page.type(" ")
    assert title(page) == "Finding 2 of 2"
    page.press("Backspace")
    assert title(page) == "Finding 1 of 2"
    page.button("Ask")
    page.press("Enter")
    assert "2 of 2" in title(page)
    page.type(" ")
    page.until("app.scan.name === 'office' && app.mode && app.mode.current")
    assert "1 of 1" in title(page)
    page.type(" ")
    assert "last" in page.message
    page.button("Balls")
    page.type(" ")
    assert "Ball 2" in title(page)
    assert page.errors() == []


def test_one_file_says_of_a_thinned_scan_that_it_is(folder, browser, tmp_path):
    file = tmp_path / "review.html"
    write_single_file(open_app(folder, "tag", readonly=True, max_points=500), file)
    page = Page(browser, file.as_uri())
    assert "At most 500 points of each scan are in this file" in page.message
    assert page.errors() == []


def test_the_page_asks_nobody_but_its_server(review):
    assert TOKEN in review.ask("location.href")
    names = review.ask("performance.getEntriesByType('resource').map((x) => x.name)")
    assert all(name.startswith(("http://127.0.0.1:", "data:")) for name in names)
