"""The page of `mprm tag` with a scan of many points: how soon it is there, how smoothly it turns.

One scan of a furnished room is written to a temporary folder, opened in a browser without a
window, and turned for some seconds. Without a graphics card the processor draws, which is slow:
`renderer` says who drew.

    python benchmarks/tag_page.py --output benchmarks/results/tag_page.json
    python benchmarks/tag_page.py --points 1000000
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
from browser import open_browser, running, why_not
from plyfile import PlyData, PlyElement
from processes import print_row, rounded, write_report

_ROOM = np.array([12.0, 9.0, 2.6])  # meters
_NUM_BOXES = 40  # pieces of furniture
_PATIENCE = 100.0  # seconds
_TURN = """
const [seconds, done] = arguments;
const { view } = app;
const offset = view.camera.position.clone().sub(view.controls.target);
const start = performance.now();
let frames = 0, drawn = 0;
const before = view.frames;
function turn(now) {
  offset.applyAxisAngle(view.camera.up, 0.02);
  view.camera.position.copy(view.controls.target).add(offset);
  view.controls.update();
  drawn += Math.min(view.budget, view.cloud.total);
  frames += 1;
  if (now - start < 1000 * seconds) return requestAnimationFrame(turn);
  const took = (performance.now() - start) / 1000;
  done({ per_second: (view.frames - before) / took, drawn: drawn / frames });
}
requestAnimationFrame(turn);"""
_RENDERER = """
const gl = app.view.renderer.getContext();
const info = gl.getExtension('WEBGL_debug_renderer_info');
return gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER);"""
_READING = """
const asked = performance.getEntriesByType('resource');
return asked.find(({ name }) => name.endsWith('api/scan/0')).duration / 1000;"""
_STILL = "app.view.cloud.total >= app.scan.shown_points && app.view.drawn >= app.view.cloud.total"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=10_000_000, help="of the scan")
    parser.add_argument("--seconds", type=float, default=5.0, help="for which the view turns")
    parser.add_argument("--output", type=pathlib.Path, help="JSON report")
    args = parser.parse_args()
    if why_not():
        sys.exit(why_not())
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        write_room(folder, args.points)
        row = print_row(measure(folder, args.points, args.seconds))
    write_report(args.output, [row])


def write_room(folder: pathlib.Path, num_points: int) -> None:
    """Writes a room of points on its six sides and on the boxes that stand in it."""
    rng = np.random.default_rng(0)
    low = np.concatenate([[np.zeros(3)], rng.uniform(0, 0.9, (_NUM_BOXES, 3)) * _ROOM])
    low[1:, 2] = 0
    size = np.concatenate([[_ROOM], rng.uniform(0.3, 1.8, (_NUM_BOXES, 3))])
    area = size[:, 0] * size[:, 1] + size[:, 1] * size[:, 2] + size[:, 2] * size[:, 0]
    box = rng.choice(len(low), num_points, p=area / area.sum())
    coords = rng.random((num_points, 3))
    axis = rng.integers(0, 3, num_points)
    coords[np.arange(num_points), axis] = rng.integers(0, 2, num_points)  # onto a side
    coords = low[box] + coords * size[box]
    colors = rng.integers(60, 255, (len(low), 3))[box] - rng.integers(0, 30, (num_points, 3))
    vertices = np.empty(
        num_points, [*((x, "f4") for x in "xyz"), *((c, "u1") for c in ("red", "green", "blue"))]
    )
    for name, values in zip(vertices.dtype.names, [*coords.T, *colors.T], strict=True):
        vertices[name] = values
    PlyData([PlyElement.describe(vertices, "vertex")]).write(folder / "room.ply")
    (folder / "classes.txt").write_text("wall\nfloor\nchair\ntable\n", encoding="utf-8")


def measure(folder: pathlib.Path, num_points: int, seconds: float) -> dict:
    """Opens the page and turns the view."""
    driver = open_browser()
    driver.set_script_timeout(_PATIENCE)
    try:
        with running(folder) as served:
            start = time.perf_counter()
            driver.get(served.address)
            _wait(driver, "window.app && app.view.cloud && app.view.drawn > 0")
            first = time.perf_counter() - start
            _wait(driver, _STILL)
            complete = time.perf_counter() - start
            driver.execute_script("app.view.reset()")
            _wait(driver, "!app.view.flight && " + _STILL)
            turned = driver.execute_async_script(_TURN, seconds)
            heap = driver.execute_script("return performance.memory.usedJSHeapSize")
            return rounded(
                {
                    "scan_points": num_points,
                    "shown_points": driver.execute_script("return app.scan.shown_points"),
                    "renderer": driver.execute_script(_RENDERER),
                    "reading_s": driver.execute_script(_READING),
                    "first_picture_s": first,
                    "all_points_s": complete,
                    "frames_per_s_turning": turned["per_second"],
                    "points_a_frame_turning": round(turned["drawn"]),
                    "page_heap_mb": heap / 2**20,
                    "browser_mb": sum(map(_memory_mb, _below(driver.service.process.pid))),
                    "server_mb": _memory_mb(served.process.pid),
                    "server_peak_mb": _memory_mb(served.process.pid, "VmHWM"),
                }
            )
    finally:
        driver.quit()


def _wait(driver, condition: str) -> None:
    end = time.perf_counter() + _PATIENCE
    while not driver.execute_script(f"return !!({condition})"):
        if time.perf_counter() > end:
            raise TimeoutError(condition)
        time.sleep(0.02)


def _memory_mb(process: int, kind: str = "VmRSS") -> float:
    """Memory of a process; shared pages count in each that has them."""
    lines = pathlib.Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def _below(process: int) -> list[int]:
    """The processes that a process started, and those that these did."""
    found, parents = [], {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = pathlib.Path(f"/proc/{name}/stat").read_text(encoding="utf-8")
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(name))
    waiting = [process]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


if __name__ == "__main__":
    main()
