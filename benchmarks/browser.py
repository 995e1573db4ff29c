"""A browser without a window, where Chromium is installed, and `mprm tag` for it to show."""

import contextlib
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

SCRIPT = pathlib.Path(__file__).parents[1] / "experiments" / "tag.py"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--window-size=1366,900"),
    # Drawn by the processor where there is no graphics card.
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    "--enable-precise-memory-info",
)


class Running(NamedTuple):
    """A running `mprm tag`."""

    address: str
    process: subprocess.Popen


def why_not() -> str | None:
    """Why there is no browser here; None if there is."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed: pip install selenium"
    if not (BROWSER and DRIVER):
        return "chromium and chromedriver are not on the PATH"
    return None


def open_browser():
    """Starts the browser, which keeps what pages write to their console."""
    from selenium import webdriver  # not needed by the package, and missing in most places

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))


@contextlib.contextmanager
def running(folder: pathlib.Path, *flags: str) -> Iterator[Running]:
    """Runs `mprm tag` on a folder of scans.

    Raises:
      RuntimeError: it ended, with what it said.
    """
    command = [sys.executable, SCRIPT, "--data", f"folder:{folder}", "--no-browser", *flags]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        heard = []
        for line in iter(process.stdout.readline, ""):
            heard.append(line)
            if found := re.search(r"http://127\S+", line):
                break
        else:
            raise RuntimeError("".join(heard))
        yield Running(found[0], process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
