"""The page and all it would ask for in one file, to send to somebody; nothing can be saved there.

The answers of the server lie in the file as the page would get them, binary ones as base64.
"""

import base64
import json
import logging
import pathlib
import re
from collections.abc import Iterator

from mprm_jax.errors import UserError
from mprm_jax.progress import progress_bar
from mprm_jax.tagging.app import App, page_file
from mprm_jax.tagging.messages import JSON
from mprm_jax.tagging.scans_shown import CHUNK_POINTS
from mprm_jax.writing import whole_file

logger = logging.getLogger(__name__)

MAX_BYTES = 50_000_000  # what mail and chat take, and browsers open at once
_PAGE_BYTES = 4_000_000  # of the page itself, and of lists of balls and findings
_POINT_BYTES, _LAYER_BYTES = 15, 1  # of a point, before base64
_NUM_LAYERS = 7  # at most
_MIN_POINTS = 1000  # of a scan; fewer show nothing
# Modules that are data themselves cannot name each other by a path, only by a plain name.
_IMPORT = re.compile(r"""(\bfrom\s*|\bimport\s*)(["'])\./([\w.]+)\2""")
_STYLE = re.compile(r'<link rel="stylesheet" href="(page/[\w.]+)">')
_SCRIPT = re.compile(r'<script type="module" src="(page/[\w.]+)"></script>')
_MAP = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)
# Nothing of this file reaches the network.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; "
    "img-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
)


def points_that_fit(num_scans: int) -> int:
    """Points of each scan with which the file stays below MAX_BYTES.

    Raises:
      UserError: there are too many scans for one file.
    """
    each = (_POINT_BYTES + _NUM_LAYERS * _LAYER_BYTES) * 4 / 3
    count = int((MAX_BYTES - _PAGE_BYTES) / max(num_scans, 1) / each)
    if count < _MIN_POINTS:
        raise UserError(f"--html: {num_scans} scans are too many for one file; show some of them.")
    return count


def write_single_file(app: App, path: pathlib.Path) -> None:
    """Writes the page of a read-only app; scans that cannot be read are named in it.

    Raises:
      FailedWriteError: disk full or not writable.
    """
    state = _ask(app, "api/state")
    answers, scans = {}, state["scans"]
    with progress_bar(len(scans), "scans", "writing the page") as bar:
        for scan in scans:
            answers |= dict(_answers_of_scan(app, scan["index"]))
            bar.update()
    # Asked again: it says now how many balls there are, and which scans are broken.
    answers["api/state"] = _ask(app, "api/state")
    with whole_file(path) as partial:
        partial.write_text(_page(answers), encoding="utf-8", newline="\n")
        logger.info("%s: %.1f MB, opens in any browser", path, partial.stat().st_size / 1e6)


def _answers_of_scan(app: App, index: int) -> Iterator[tuple[str, object]]:
    place = f"api/scan/{index}"
    answer = app.answer("GET", place, b"")
    if answer.status != 200:
        logger.warning("left out: %s", json.loads(answer.body)["error"])
        return
    scan = json.loads(answer.body)
    yield place, scan
    for chunk in range(-(-scan["shown_points"] // CHUNK_POINTS)):
        names = ["points", *(f"layer/{layer['name']}" for layer in scan["layers"])]
        for name in names:
            yield f"{place}/{name}/{chunk}", _ask(app, f"{place}/{name}/{chunk}")


def _ask(app: App, path: str) -> object:
    """JSON, or bytes as base64."""
    answer = app.answer("GET", path, b"")
    if answer.status != 200:
        raise UserError(json.loads(answer.body)["error"])
    return (
        json.loads(answer.body) if answer.kind == JSON else base64.b64encode(answer.body).decode()
    )


def _page(answers: dict[str, object]) -> str:
    """The page with its style, its modules and the answers inside."""
    page = _text("")
    start = _SCRIPT.search(page)[1]
    bare = json.loads(_MAP.search(page)[1])["imports"]
    modules = _modules(start.removeprefix("page/"), bare)
    imports = {f"page/{name}": _as_data(_text(f"page/{name}")) for name in modules}
    imports |= {name: imports[path.removeprefix("./")] for name, path in bare.items()}
    # No "<" in what is written into a script: it could end it.
    embedded = json.dumps(answers, ensure_ascii=True).replace("<", "\\u003c")
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f"<script>window.EMBEDDED = {embedded};</script>\n"
        f'<script type="importmap">{json.dumps({"imports": imports})}</script>'
    )
    page = _MAP.sub(lambda _: head, page)
    page = _STYLE.sub(lambda found: f"<style>\n{_text(found[1])}</style>", page)
    return _SCRIPT.sub(lambda _: f'<script type="module">import "{start}";</script>', page)


def _modules(start: str, bare: dict[str, str]) -> list[str]:
    """The modules that the page needs: the first one, those of plain names, and their imports."""
    found: list[str] = []
    waiting = [start, *(path.removeprefix("./page/") for path in bare.values())]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            waiting += [match[3] for match in _IMPORT.finditer(_text(f"page/{name}"))]
    return found


def _as_data(module: str) -> str:
    named = _IMPORT.sub(r"\1\2page/\3\2", module)
    return f"data:text/javascript;base64,{base64.b64encode(named.encode()).decode()}"


def _text(path: str) -> str:
    return page_file(path).body.decode()
