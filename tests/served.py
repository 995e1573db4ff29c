"""A folder of two scans and a server for it, as tests ask it."""

import contextlib
import http.client
import json
import struct
import threading

import numpy as np
from scan_folders import write_scan

from mprm_jax.config import DataConfig
from mprm_jax.tagging.app import App, Wishes
from mprm_jax.tagging.scans_shown import ShownScans
from mprm_jax.tagging.server import Server
from mprm_jax.tagging.sources import open_scans

TOKEN = "5" * 32
OPEN = {"state": "open", "tags": []}


def write_room(path, offset=(0.0, 0.0, 0.0), scale=1.0, count=3000):
    """Writes a scan of a floor and two walls, 5 x 4 x 2.5 m."""
    rng = np.random.default_rng(0)
    coords = rng.uniform(0, 1, (count, 3)) * (5, 4, 2.5)
    for axis, third in enumerate(np.array_split(np.arange(count), 3)):
        coords[third, axis] = 0
    colors = rng.integers(0, 256, coords.shape).astype(np.uint8)
    write_scan(path, (coords + offset) / scale, rgb=colors)


def write_rooms(folder, classes=("wall", "floor", "chair"), **settings):
    """Writes two scans and a list of classes."""
    write_room(folder / "hall.npz", **settings)
    write_room(folder / "office.npz", **settings)
    if classes:
        (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))


def open_app(folder, *, max_points=2000, data=None, **settings):
    """An app for the scans of a folder."""
    data = data or DataConfig()
    source, files = open_scans(f"folder:{folder}", data)
    wishes = Wishes(f"folder:{folder}", max_points, data.sphere_radius, **settings)
    return App(ShownScans(source, data), files, wishes)


@contextlib.contextmanager
def serving(app):
    """A server that runs beside the test."""
    with Server(app, token=TOKEN) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path, body=None, *, method=None, headers=None, token=TOKEN):
    """Asks a server; gives the status and the JSON or the bytes of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {} if data is None else {"Content-Type": "application/json"}
    with contextlib.closing(connection):
        method = method or ("GET" if data is None else "POST")
        connection.request(method, f"/{token}/{path}", data, sent | (headers or {}))
        answer = connection.getresponse()
        content = answer.read()
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.status, json.loads(content) if is_json else content


def read_points(content):
    """Positions and colors of a binary answer."""
    (count,) = struct.unpack_from("<I", content)
    coords = np.frombuffer(content, "<f4", 3 * count, 4).reshape(-1, 3)
    colors = np.frombuffer(content, np.uint8, 3 * count, 4 + 12 * count).reshape(-1, 3)
    assert len(content) == 4 + 15 * count
    return coords, colors
