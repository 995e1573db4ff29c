"""The tagging page as a person uses it, and a folder of two small scans to show."""

import csv
import pathlib
import time

import numpy as np
from plyfile import PlyData, PlyElement

CLASSES = ("wall", "floor", "chair", "table")
LONE = (1.5, 1.6, 1.1)  # meters; a point with nothing near it
FAR_AWAY = (500000.0, 5400000.0, 100.0)  # as UTM coordinates are
WAIT = 60.0  # seconds


def write_scans(folder: pathlib.Path, offset: tuple[float, float, float] = (0, 0, 0)) -> None:
    """Writes two rooms of 3 x 3 x 2 m without ceiling, a lone point in each, and `classes.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("hall", "office")):
        _write_ply(folder / f"{name}.ply", _room(seed) + np.array(offset)[None])
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")


def _room(seed: int, num_points: int = 4000) -> np.ndarray:
    """Points [N, 3] of a floor and two walls; the first is LONE."""
    rng = np.random.default_rng(seed)
    across = rng.uniform(0, 3, (num_points, 2))
    up, zero = rng.uniform(0, 2, num_points), np.zeros(num_points)
    floor = np.column_stack([across, zero])
    walls = [np.column_stack([across[:, 0], zero, up]), np.column_stack([zero, across[:, 0], up])]
    return np.concatenate([[LONE], floor, *walls])


def _write_ply(path: pathlib.Path, coords: np.ndarray) -> None:
    names = [*((axis, "f8") for axis in "xyz"), *((c, "u1") for c in ("red", "green", "blue"))]
    vertices = np.empty(len(coords), names)
    for axis, values in zip("xyz", coords.T, strict=True):
        vertices[axis] = values
    for color in ("red", "green", "blue"):
        vertices[color] = 160
    vertices["red"][0] = 255
    PlyData([PlyElement.describe(vertices, "vertex")]).write(path)


def rows(folder: pathlib.Path, name: str = "tags.csv") -> list[dict[str, str]]:
    """The rows of a file about the scans, without what is blank."""
    if not (folder / name).exists():
        return []
    with open(folder / name, encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


class Page:
    """What a person does on the page and sees there."""

    def __init__(self, driver, address: str):
        self.driver = driver
        self.open(address)

    def open(self, address: str) -> None:
        self.driver.get("about:blank")
        self.driver.get(address)
        self.until("window.app && app.mode && app.view.drawn >= app.view.cloud.total")

    def ask(self, script: str):
        """The value of an expression in the page."""
        return self.driver.execute_script(f"return {script}")

    def until(self, condition: str) -> None:
        """Waits for something to become true in the page."""
        end = time.monotonic() + WAIT
        while not self.ask(f"!!({condition})"):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {condition}; the page says {self.message!r}")
            time.sleep(0.02)

    def type(self, *keys: str) -> None:
        """Presses keys one after another; returns once what they began is done."""
        self.driver.switch_to.active_element.send_keys(*keys)
        self.settle()

    def press(self, key: str, code: str = "", shift: bool = False) -> None:
        """Sends a key press as a keyboard of any layout does."""
        self.driver.execute_script(
            "document.dispatchEvent(new KeyboardEvent('keydown',"
            " {key: arguments[0], code: arguments[1], shiftKey: arguments[2], bubbles: true}))",
            *(key, code, shift),
        )
        self.settle()

    def settle(self) -> None:
        """Waits for all presses, saves and flights."""
        self.driver.execute_async_script("app.keys.queue.then(arguments[0])")
        self.until("!app.saving && !app.view.flight")

    def button(self, text: str) -> None:
        """Presses the button that begins with a text."""
        self.driver.execute_script(
            "[...document.querySelectorAll('button')].find("
            "(b) => b.offsetParent && b.textContent.trim().startsWith(arguments[0])).click()",
            text,
        )
        self.settle()

    def point_at(self, point) -> None:
        """Clicks where a point (meters, file frame less the origin) is on the screen."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        self.settle()
        place = f"app.view.project({[float(x) for x in point]})"
        self.until(f"(([x, y]) => x > 0 && y > 0 && x < innerWidth && y < innerHeight)({place})")
        x, y = self.ask(place)
        builder = ActionBuilder(self.driver)
        builder.pointer_action.move_to_location(round(x), round(y)).click()
        builder.perform()

    def drag(self, across: int, down: int) -> None:
        """Drags the middle of the view, in pixels."""
        from selenium.webdriver.common.action_chains import ActionChains

        actions = ActionChains(self.driver)
        actions.move_to_element(self.driver.find_element("css selector", "#view canvas"))
        actions.click_and_hold().move_by_offset(across, down).release().perform()
        self.settle()

    @property
    def message(self) -> str:
        return self.ask("document.getElementById('message').textContent")

    @property
    def text(self) -> str:
        return self.ask("document.body.innerText")

    def errors(self) -> list[str]:
        """What went wrong in the page, but not what the server refused."""
        entries = self.driver.get_log("browser")
        wrong = [x["message"] for x in entries if x["level"] in ("SEVERE", "WARNING")]
        return [x for x in wrong if "Failed to load resource" not in x and "GPU stall" not in x]
