"""Draws rooms of the embedded data set as pictures: in color on the left, by class on the right."""

import pathlib

import numpy as np

from mprm_jax.commands.commandline import Parser
from mprm_jax.palette import class_palette, label_colors
from mprm_jax.rooms.generate import SIZES, scan_scene
from mprm_jax.rooms.scan import Scan, vertex_nyu40_ids
from mprm_jax.scans.scannet import CLASSES, to_benchmark_labels
from mprm_jax.types import Array
from mprm_jax.writing import explain_failed_write, whole_file

BACKGROUND = 1.0


def main() -> None:
    """Writes one PNG per room."""
    parser = Parser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the pictures")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--pixels", type=int, default=700, help="width of each view")
    arguments = parser.parse_args()
    # Matplotlib looks at the environment when it is imported, which `run` has mended by then.
    import matplotlib.image

    with explain_failed_write(arguments.out):
        arguments.out.mkdir(parents=True, exist_ok=True)
    for index in arguments.scenes:
        scan = scan_scene(arguments.size, arguments.seed, index)
        colorings = (scan.colors / 255, class_colors(scan))
        views = [view(scan, colors, arguments.pixels) for colors in colorings]
        with whole_file(arguments.out / f"room{index:04d}.png") as partial:
            matplotlib.image.imsave(partial, np.concatenate(views, axis=1), format="png")


def class_colors(scan: Scan) -> Array:
    """Returns the color of each vertex's class: [N, 3]."""
    labels = to_benchmark_labels(vertex_nyu40_ids(scan))
    return label_colors(labels, class_palette(len(CLASSES)))


def view(scan: Scan, colors: Array, pixels: int, *, elevation: float = 0.75) -> Array:
    """Looks down at a room from a corner; surfaces seen from behind, like near walls, are cut away.

    Returns:
      [pixels, pixels, 3] in [0, 1]
    """
    aligned = scan.points @ scan.axis_alignment[:3, :3].T
    azimuth = 0.6
    forward = -np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    axes = np.stack([right, np.cross(right, forward), forward])
    corners = aligned[scan.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    front = normal @ forward < 0
    points, shades = _sampled(corners[front] @ axes.T, colors[scan.faces[front]])
    return _splat(points, shades, pixels)


def _sampled(corners: Array, colors: Array, steps: int = 12) -> tuple[Array, Array]:
    """Returns points spread evenly over triangles, with their colors."""
    i, j = np.meshgrid(np.arange(steps), np.arange(steps), indexing="ij")
    inside = i + j < steps
    weights = np.stack([i[inside], j[inside], steps - 1 - i[inside] - j[inside]], axis=1) / (
        steps - 1
    )
    return (
        np.einsum("wk,fkd->fwd", weights, corners).reshape(-1, 3),
        np.einsum("wk,fkd->fwd", weights, colors).reshape(-1, 3),
    )


def _splat(points: Array, colors: Array, pixels: int) -> Array:
    """Draws the nearest point of each pixel."""
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (pixels - 3) / np.max((high - low)[:2])
    place = np.floor((points[:, :2] - (low + high)[:2] / 2) * scale + pixels / 2).astype(int)
    order = np.argsort(-points[:, 2])
    column, row = np.clip(place[order], 0, pixels - 1).T
    image = np.full((pixels, pixels, 3), BACKGROUND)
    image[pixels - 1 - row, column] = colors[order]
    return image
