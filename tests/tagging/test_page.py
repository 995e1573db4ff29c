"""The page in a browser: a person tags, clicks and undoes; what they said is in the files."""

import signal

import numpy as np
import pytest
from browser import running
from page_browser import CLASSES, FAR_AWAY, LONE, Page, rows, write_scans
from scan_folders import write_scan
from served import open_app, serving

pytestmark = pytest.mark.slow
BALL_ROWS = 4  # of a room of 3 x 3 x 2 m with balls of 2 m


@pytest.fixture
def folder(tmp_path):
    write_scans(tmp_path / "scans")
    return tmp_path / "scans"


@pytest.fixture
def page(folder, browser):
    with serving(open_app(folder, max_points=10**6)) as served:
        page = Page(browser, served.address)
        yield page
        assert page.errors() == []


def tags_of(folder):
    return [row.get("tags", "") for row in rows(folder)]


def test_a_room_is_tagged_to_its_end_by_keyboard(folder, page):
    for _ in range(BALL_ROWS):
        page.type("1", "2", " ")
    assert "This scan is done" in page.message
    assert [set(tags.split(";")) for tags in tags_of(folder)] == [{"wall", "floor"}] * BALL_ROWS
    assert {row["scene"] for row in rows(folder)} == {"hall.ply"}
    assert all(float(row["seconds"]) >= 0 for row in rows(folder))
    page.type(" ")
    page.until("app.scan.name === 'office' && app.mode")
    assert page.ask("app.tagging.ball.state") == "open"


def test_nothing_is_ticked_before_a_person_ticks_it(folder, page):
    assert page.ask("document.querySelectorAll('.class[aria-pressed=\"true\"]').length") == 0
    page.type(" ")
    assert "Nothing is ticked" in page.message
    assert rows(folder) == []


def test_nothing_here_and_not_sure_are_answers_of_their_own(folder, page):
    page.type("n", "m")
    first, second = rows(folder)
    assert "tags" not in first and first.get("unsure", "0") == "0"
    assert "tags" not in second and second["unsure"] == "1"
    assert page.ask("app.scan.balls.map((b) => b.state)")[:3] == ["tagged", "unsure", "open"]


def test_saved_goes_away_with_anything_that_saves_nothing(page):
    for key in ("9", "t"):
        page.type("1", " ")
        assert page.message == "Saved."
        page.type(key)
        assert page.message == ""
    page.type("1", " ")
    page.button("Back")
    assert page.message == ""


def test_undo_takes_back_the_last_saved_change_of_another_ball(folder, page):
    first = page.ask("app.tagging.ball.id")
    page.type("1", " ", "2", " ")
    page.type("u")
    assert tags_of(folder) == ["wall"]
    page.type("u")
    assert tags_of(folder) == []
    assert page.ask("app.tagging.ball.id") == first
    assert page.ask("app.tagging.ball.state") == "open"
    page.type("u")
    assert "Nothing to undo" in page.message


def test_undo_works_after_its_scan_was_left_and_opened_again(folder, page):
    page.type("1", " ")
    for index in (1, 0):
        page.driver.execute_script(f"app.openScan({index})")
        page.until(f"app.scan.index === {index} && app.mode")
    page.type("u")
    assert tags_of(folder) == []
    assert page.ask("app.scan.balls.map((ball) => ball.state)") == ["open"] * BALL_ROWS
    page.type("2", " ")
    assert tags_of(folder) == ["floor"]


def test_backspace_goes_back_and_shows_what_was_saved(folder, page):
    page.type("1", "3", " ")
    page.press("Backspace")
    assert "saved: 2 ticked" in page.text
    page.type("3", " ")
    assert tags_of(folder) == ["wall"]


def test_a_class_is_added_while_tagging(folder, page):
    page.type("1", " ")
    page.driver.find_element("id", "new-class-name").send_keys("lamp", "\n")
    page.until("app.classes.length === 5")
    page.until("document.getElementById('message').textContent.includes('counts as absent')")
    page.driver.find_element("id", "new-class-name").send_keys("\n")
    page.type("5", " ")
    assert (folder / "classes.txt").read_text(encoding="utf-8").split() == [*CLASSES, "lamp"]
    assert tags_of(folder) == ["wall", "lamp"]


def test_several_classes_are_added_before_the_first_tick(folder, page):
    page.driver.find_element("id", "new-class-name").send_keys("lamp", "\n")
    page.until("app.classes.length === 5 && !document.getElementById('new-class-name').value")
    page.until("document.getElementById('message').textContent.startsWith('Added')")
    assert "absent" not in page.message
    page.driver.switch_to.active_element.send_keys("sofa", "\n")
    page.until("app.classes.length === 6 && app.classes[5].name === 'sofa'")
    page.type("\n")
    assert page.ask("document.activeElement.id") == ""
    page.type("6")
    page.driver.find_element("id", "new-class-name").send_keys("door", "\n")
    page.until("app.classes.length === 7 && document.activeElement.id === ''")
    page.type(" ")
    assert tags_of(folder) == ["sofa"]


def test_a_broken_table_is_told_in_the_middle_of_the_page(folder, page):
    page.type("1", " ")
    (folder / "tags.csv").write_text("scene,tags\noffice,lamp\n", encoding="utf-8")
    page.driver.refresh()
    page.until("window.app && !document.getElementById('trouble').hidden")
    assert "line 2 names class 'lamp'" in page.ask("document.getElementById('trouble').textContent")
    assert page.ask("document.getElementById('new-class-name').offsetParent") is None
    for key in ("t", "x", "c", "u", "1", "?"):
        page.press(key)


def test_a_class_is_found_by_the_start_of_its_name(folder, page):
    page.type("/")
    page.type("ta", "\n")
    page.type(" ")
    assert tags_of(folder) == ["table"]


def test_digits_count_with_any_keyboard_layout(folder, page):
    page.press("é", "Digit2")  # the key of 2 on a French keyboard
    page.press("3", "Digit3", shift=True)
    page.press(" ", "Space")
    assert tags_of(folder) == ["floor;chair"]


def test_keys_with_control_are_left_to_the_browser(folder, page):
    page.driver.execute_script(
        "document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', ctrlKey: true}))"
    )
    page.settle()
    assert page.ask("app.tagging.draft.size") == 0


def test_fast_presses_go_to_the_balls_they_were_meant_for(folder, page):
    page.driver.execute_script(
        "for (const key of ['1', ' ', '2', ' ', '3', ' ']) document.dispatchEvent("
        "new KeyboardEvent('keydown', {key, bubbles: true}))"
    )
    page.settle()
    assert tags_of(folder) == ["wall", "floor", "chair"]


def test_a_killed_server_loses_nothing_and_the_page_goes_on(folder, browser):
    with running(folder) as served:
        port = served.address.split(":")[2].split("/")[0]
        page = Page(browser, served.address)
        page.type("1", " ", "2", " ", "3")
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
        page.type(" ")
        assert "does not answer" in page.message
        assert page.ask("[...app.tagging.draft]") == [2]
        open_ball = page.ask("app.tagging.ball.id")
    assert tags_of(folder) == ["wall", "floor"]
    with running(folder, "--port", port) as served:
        page.open(served.address)
        assert page.ask("app.tagging.ball.id") == open_ball
        assert page.ask("app.state.scans[0].done") == 2
        page.type("4", " ")
    assert tags_of(folder) == ["wall", "floor", "chair;table"]
    page.errors()


def test_presses_after_a_failed_save_are_not_taken_for_the_next_ball(folder, browser):
    with running(folder) as served:
        page = Page(browser, served.address)
        served.process.send_signal(signal.SIGKILL)
        served.process.wait()
        page.driver.execute_script(
            "for (const key of ['1', ' ', '2', ' ']) document.dispatchEvent("
            "new KeyboardEvent('keydown', {key, bubbles: true}))"
        )
        page.settle()
        assert page.ask("[...app.tagging.draft]") == [0]
        page.errors()


def test_a_second_page_overwrites_nothing(folder, page):
    first = page.driver.current_window_handle
    address = page.driver.current_url.split("#")[0]
    page.driver.switch_to.new_window("window")
    second = Page(page.driver, address)
    second.type("1", " ")
    page.driver.switch_to.window(first)
    page.type("2", " ")
    assert tags_of(folder) == ["wall"]
    assert "⚠" in page.message
    assert "saved: 1 ticked" in page.text
    page.type("2", " ")
    assert tags_of(folder) == ["wall;floor"]
    page.driver.switch_to.window(page.driver.window_handles[-1])
    page.driver.close()
    page.driver.switch_to.window(first)


def test_tags_of_the_whole_scan(folder, page):
    page.type("s", "1", "4", " ")
    (row,) = rows(folder)
    assert row["tags"] == "wall;table" and "x" not in row
    page.type("s")
    assert "Ball 1" in page.text


def test_a_click_is_where_it_was_aimed(folder, page):
    page.type("c", "x")
    point = np.array(LONE) - page.ask("app.scan.origin")
    page.point_at(point)
    page.until("app.mode.picked")
    page.type("3")
    (row,) = rows(folder, "clicks.csv")
    assert (row["class"], row["answer"]) == ("chair", "yes")
    assert np.abs([float(row[axis]) for axis in "xyz"] - np.array(LONE)).max() < 0.01
    page.point_at(point)
    page.until("app.mode.picked")
    page.press("-")
    page.type("4")
    assert [row["answer"] for row in rows(folder, "clicks.csv")] == ["yes", "no"]
    page.type("u")
    assert [row["answer"] for row in rows(folder, "clicks.csv")] == ["yes"]
    page.button("chair")
    page.press("Delete")


def test_a_drag_turns_the_view_and_is_no_click(folder, page):
    page.type("c", "x")
    before = page.ask("app.view.camera.position.toArray()")
    page.drag(120, 40)
    assert np.abs(np.subtract(page.ask("app.view.camera.position.toArray()"), before)).max() > 0.1
    assert page.ask("app.mode.picked") is None


def test_nothing_is_picked_that_is_hidden(folder, page):
    page.type("c", "x")
    point = np.array(LONE) - page.ask("app.scan.origin")
    page.driver.execute_script("app.cutCeiling(0.3)")  # LONE is higher
    page.point_at(point)
    page.settle()
    picked = page.ask("app.mode.picked")
    assert picked is None or picked[2] < point[2] - 0.1


def test_of_a_thinned_scan_the_ball_has_all_its_points(folder, browser):
    with serving(open_app(folder, max_points=500)) as served:
        page = Page(browser, served.address)
        page.until("app.view.cloud.dense")
        assert "showing 500 of 12,001 points" in page.text
        assert page.ask("app.view.cloud.dense.count") > 500
        page.type("1", " ")
        page.until("app.view.cloud.dense")
        assert page.errors() == []


def test_a_scan_without_colors_is_colored_by_height(tmp_path, browser):
    coords = np.random.default_rng(0).uniform(0, (3, 3, 2), (3000, 3))
    write_scan(tmp_path / "hall.npz", coords)
    (tmp_path / "classes.txt").write_text("wall\n", encoding="utf-8")
    with serving(open_app(tmp_path)) as served:
        page = Page(browser, served.address)
        low, high = page.ask("app.view.cloud.uniforms.heights.value.toArray()")
        assert high - low > 1.9
        assert page.errors() == []


def test_large_coordinates_are_shown_and_picked_right(tmp_path, browser):
    folder = tmp_path / "far"
    write_scans(folder, FAR_AWAY)
    with serving(open_app(folder, max_points=10**6)) as served:
        page = Page(browser, served.address)
        low, high = page.ask("app.scan.bounds")
        assert np.abs([*low, *high]).max() < 10
        page.type("c", "x")
        aimed = np.array(LONE) + np.array(FAR_AWAY)
        page.point_at(aimed - page.ask("app.scan.origin"))
        page.until("app.mode.picked")
        page.type("3")
        assert page.errors() == []
    (row,) = rows(folder, "clicks.csv")
    assert np.abs([float(row[axis]) for axis in "xyz"] - aimed).max() < 0.01


def test_a_reload_goes_on_at_the_next_open_ball(folder, page):
    page.type("1", " ", "2", " ")
    ball = page.ask("app.tagging.ball.id")
    page.driver.refresh()
    page.until("window.app && app.mode")
    assert page.ask("app.tagging.ball.id") == ball


def finish(page):
    for _ in range(BALL_ROWS):
        page.type("1", " ")


def scan_facts(page):
    script = "[...document.querySelectorAll('#scan-list small')].map((x) => x.textContent)"
    return page.ask(script)


def test_started_again_it_opens_the_scan_of_the_next_open_ball(folder, page, browser):
    assert "not begun" in scan_facts(page)[1]
    finish(page)
    with serving(open_app(folder, max_points=10**6)) as served:
        page.open(served.address)
        assert page.ask("app.scan.name") == "office"
        assert page.ask("app.tagging.ball.state") == "open"
        assert f"{BALL_ROWS} of {BALL_ROWS} balls" in scan_facts(page)[0]
        finish(page)
    with serving(open_app(folder, max_points=10**6)) as served:
        page.open(served.address)
        page.until("document.getElementById('message').textContent.startsWith('All scans')")
    assert len(tags_of(folder)) == 2 * BALL_ROWS


def test_of_a_scan_that_was_begun_its_tagged_balls_are_counted(folder, page, browser):
    page.driver.execute_script("app.openScan(1)")
    page.until("app.scan.index === 1 && app.mode")
    page.type("1", " ")
    with serving(open_app(folder, max_points=10**6)) as served:
        page.open(served.address)
        assert page.ask("app.scan.name") == "hall"
        assert "1 ball tagged" in scan_facts(page)[1]


def test_ticks_that_were_not_saved_stay_over_a_reload(folder, page):
    page.type("1", " ", "3", "4")
    page.driver.refresh()
    page.until("window.app && app.mode")
    assert page.ask("[...app.tagging.draft]") == [2, 3]
    assert "not saved yet" in page.text
    page.type(" ")
    assert tags_of(folder) == ["wall", "chair;table"]
    assert page.ask("app.tagging.draft.size") == 0


def test_a_scan_that_cannot_be_read_is_named_and_the_next_one_is_shown(folder, browser):
    (folder / "hall.ply").write_bytes((folder / "hall.ply").read_bytes()[:500])
    with serving(open_app(folder)) as served:
        page = Page(browser, served.address)
        assert page.ask("app.scan.name") == "office"
        reason = page.ask("document.querySelector('.broken small').textContent")
        assert "hall.ply" in reason and "\n" not in reason
        page.type("1", " ")
        page.errors()
    assert [(row["scene"], row["tags"]) for row in rows(folder)] == [("office.ply", "wall")]


def test_whole_scans_are_tagged_where_no_balls_are_offered(folder, browser):
    with serving(open_app(folder, whole_scenes=True)) as served:
        page = Page(browser, served.address)
        page.type("1", " ")
        page.until("app.scan.name === 'office' && app.mode")
        assert [facts.split(" · ")[0] for facts in scan_facts(page)] == ["tagged", "not tagged"]
        assert "Scans tagged: 1 of 2" in page.text
        assert "Balls" not in page.text and "balls" not in page.text
        page.type("s", "2", " ")
        assert "All scans are done" in page.message
        assert page.errors() == []
    with serving(open_app(folder, whole_scenes=True)) as served:
        page.open(served.address)
        page.until("document.getElementById('message').textContent.startsWith('All scans')")
        assert page.errors() == []
    assert tags_of(folder) == ["wall", "floor"]
    assert all("x" not in row for row in rows(folder))


def test_more_classes_than_keys_are_found_by_typing(folder, browser):
    names = [*CLASSES, *(f"kind {i}" for i in range(60))]
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    with serving(open_app(folder, max_points=10**6)) as served:
        page = Page(browser, served.address)
        page.type("/")
        page.type("kind 59", "\n")
        page.type("1", " ")
        assert page.errors() == []
    assert tags_of(folder) == ["wall;kind 59"]


def test_the_most_telling_ball_comes_next_where_that_was_asked_for(folder, browser):
    with serving(open_app(folder, helpful=True)) as served:
        page = Page(browser, served.address)
        for _ in range(BALL_ROWS):
            page.type("1", " ")
        assert "This scan is done" in page.message
        assert page.errors() == []
    assert len(tags_of(folder)) == BALL_ROWS


def test_every_second_of_work_is_in_one_row(folder, page):
    """Also of answers that are undone and given again."""
    page.driver.execute_script("app.activity.settle = () => {}")

    def work(*keys, seconds=7):
        for key in keys:
            page.driver.execute_script(
                f"app.activity.seconds += {seconds}; app.activity.total += {seconds}"
            )
            page.press(key)

    def agree():
        saved = sum(float(row["seconds"]) for row in rows(folder))
        saved += sum(float(row["seconds"]) for row in rows(folder, "clicks.csv"))
        total = page.ask("app.activity.total")
        assert saved + page.ask("app.activity.seconds") == pytest.approx(total, abs=0.2)
        return saved

    started = page.ask("app.activity.seconds - app.activity.total")
    assert started == pytest.approx(0, abs=0.2)
    work("1", " ", "2", " ")
    assert agree() > 27
    work("u")
    agree()
    work("2", " ", "Backspace", "3", " ", "u", "s", "1", " ")
    agree()
    work("u", "s", "c")
    page.driver.execute_script("app.mode.picked = [1, 1, 0]")
    work("1", "u")
    agree()
    page.press("c")
    work("n")
    assert agree() == pytest.approx(page.ask("app.activity.total"), abs=0.2)


def test_idle_time_is_not_counted(page):
    # 100 seconds pass without any input: 15 of them count.
    page.ask("app.activity.input()")
    before = page.ask("app.activity.seconds")
    counted = page.ask(
        "(() => { const a = app.activity; a.lastInput -= 100; a.counted -= 100; return a.read(); })"
        "()"
    )
    assert 14.5 < counted - before < 16


def test_a_still_page_draws_nothing(page):
    page.settle()
    page.until("performance.now() - app.view.lastMove > 500")
    frames = page.ask("app.view.frames")
    page.driver.execute_async_script("setTimeout(arguments[0], 500)")
    assert page.ask("app.view.frames") == frames
