"""The tagging page in a browser that is installed here, and a folder of two small scans to show."""

import contextlib
import csv
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from plyfile import PlyData, PlyElement

SCRIPT = pathlib.Path(__file__).parents[1] / "experiments" / "tag.py"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--window-size=1366,900"),
    # Drawn by the processor: also where there is no graphics card.
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)
CLASSES = ("wall", "floor", "chair", "table")
LONE = (1.5, 1.6, 1.1)  # meters; a point with nothing near it
FAR_AWAY = (500000.0, 5400000.0, 100.0)  # as UTM coordinates are
WAIT = 20.0  # seconds


class Served(NamedTuple):
    """A running `mprm tag`."""

    address: str
    process: subprocess.Popen


def why_not() -> str | None:
    """Why the page cannot be tried here; None if it can."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed: pip install selenium"
    if not (BROWSER and DRIVER):
        return "chromium and chromedriver are not on the PATH"
    return None


def open_browser():
    """A browser without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))


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


@contextlib.contextmanager
def serving(folder: pathlib.Path, *flags: str) -> Iterator[Served]:
    """Runs `mprm tag` on a folder of scans."""
    command = [sys.executable, SCRIPT, "--data", f"folder:{folder}", "--no-browser", *flags]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        lines = iter(process.stdout.readline, "")
        heard = []
        for line in lines:
            heard.append(line)
            if found := re.search(r"http://127\S+", line):
                break
        else:
            raise RuntimeError("".join(heard))
        yield Served(found[0], process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


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
        x, y = self.driver.execute_script("return app.view.project(arguments[0])", list(point))
        builder = ActionBuilder(self.driver)
        builder.pointer_action.move_to_location(round(x), round(y)).click()
        builder.perform()

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
