"""MPRM in PyTorch for the benchmark: backbone, four paths, losses, by names of our parameters."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch_kpconv import (
    deformable_kpconv,
    fitting_loss,
    kpconv,
    neighbor_max,
    offsets_to,
    repulsion_loss,
    sq_distances,
)


class Settings(NamedTuple):
    """As our config has them."""

    voxel_size: float
    kernel_extent: float
    kernel_radius: float
    paths: tuple[str, ...]
    keep: float
    negative_slope: float


class Clouds(NamedTuple):
    """A batch without padding; the shadow index is the number of rows."""

    points: list[Tensor]
    neighbors: list[Tensor]
    pools: list[Tensor]
    features: Tensor
    top_clouds: list[slice]  # rows of each cloud at the coarsest level
    labels: Tensor  # [clouds, classes] float


class Mprm:
    """Losses of a batch as functions of named parameters."""

    def __init__(self, parameters: dict[str, Tensor], kernel: Tensor, settings: Settings):
        self.p, self.kernel, self.settings = parameters, kernel, settings
        self.sown: dict[str, Tensor] = {}
        self.running = {
            name.removesuffix("/scale"): (torch.zeros(len(x)), torch.ones(len(x)))
            for name, x in parameters.items()
            if name.endswith("/scale")
        }

    def losses(self, clouds: Clouds) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The loss of each path, and fitting and repulsion of each deformable layer."""
        self.sown = {}
        top = self._encode(clouds)
        means = {}
        for path in self.settings.paths:
            scores = self._path(path, top, clouds.top_clouds) @ self.p[f"{path}_head/weights"]
            logits = torch.stack([scores[rows].mean(dim=0) for rows in clouds.top_clouds])
            means[path] = functional.binary_cross_entropy_with_logits(logits, clouds.labels)
        return means, self.sown

    def _encode(self, clouds: Clouds) -> Tensor:
        x = self._conv("encoder/level0_simple/conv", clouds, 0, False, clouds.features)
        x = self._activate(self._norm("encoder/level0_simple/norm", x))
        for level in range(len(clouds.points)):
            x = self._bottleneck(f"encoder/level{level}_block", clouds, level, False, x)
            if level + 1 < len(clouds.points):
                x = self._bottleneck(f"encoder/level{level}_stride", clouds, level, True, x)
        return x

    def _bottleneck(
        self, name: str, clouds: Clouds, level: int, strided: bool, x: Tensor
    ) -> Tensor:
        y = self._unary(f"{name}/reduce", x)
        y = self._conv(f"{name}/conv", clouds, level, strided, y)
        y = self._activate(self._norm(f"{name}/conv_norm", y))
        y = self._norm(f"{name}/expand_norm", y @ self.p[f"{name}/expand/kernel"])
        if strided:
            x = neighbor_max(x, clouds.pools[level])
        if f"{name}/shortcut/kernel" in self.p:
            x = self._norm(f"{name}/shortcut_norm", x @ self.p[f"{name}/shortcut/kernel"])
        return self._activate(y + x)

    def _conv(self, name: str, clouds: Clouds, level: int, strided: bool, x: Tensor) -> Tensor:
        extent = self.settings.kernel_extent * self.settings.voxel_size * 2**level
        points = self.kernel * (self.settings.kernel_radius * extent)
        neighbors = (clouds.pools if strided else clouds.neighbors)[level]
        queries = clouds.points[level + 1 if strided else level]
        offsets = offsets_to(queries, clouds.points[level], neighbors)
        weights = self.p[f"{name}/weights"]
        if f"{name}/offset_weights" not in self.p:
            return kpconv(offsets, neighbors, x, points, weights, extent)
        moves = kpconv(offsets, neighbors, x, points, self.p[f"{name}/offset_weights"], extent)
        moves = (moves + self.p[f"{name}/offset_bias"]) * extent
        deformed = points + moves.view(len(queries), -1, 3)
        sq_dist = sq_distances(offsets, deformed)
        filled = (neighbors < len(x)).any(dim=1)
        self.sown[f"{name}/fitting"] = fitting_loss(sq_dist, extent)
        self.sown[f"{name}/repulsion"] = repulsion_loss(deformed, filled, extent)
        return deformable_kpconv(sq_dist, neighbors, x, weights, extent)

    def _path(self, path: str, x: Tensor, clouds: list[slice]) -> Tensor:
        if path == "plain":
            return x
        if path == "channel":
            return self.p["channel/gate"] * torch.cat([_channels(x[rows]) for rows in clouds]) + x
        queries, keys, values = (
            self._asked(f"{path}/attention/{part}", x) for part in ("queries", "keys", "values")
        )
        found = torch.cat(
            [(queries[rows] @ keys[rows].T).softmax(dim=1) @ values[rows] for rows in clouds]
        )
        if path == "pointwise":
            return torch.cat([x, found], dim=1)
        return self.p["spatial/gate"] * (found @ self.p["spatial/expand/kernel"]) + x

    def _asked(self, name: str, x: Tensor) -> Tensor:
        """A product alone, or with norm and activation: `model.attention_unary`."""
        kernel = self.p.get(f"{name}/kernel")
        return self._unary(name, x) if kernel is None else x @ kernel

    def _unary(self, name: str, x: Tensor) -> Tensor:
        x = x @ self.p[f"{name}/unary/kernel"]
        return self._activate(self._norm(f"{name}/norm", x))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x,
            *self.running[name],
            self.p[f"{name}/scale"],
            self.p[f"{name}/bias"],
            training=True,
            momentum=1 - self.settings.keep,
            eps=1e-6,
        )

    def _activate(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(x, self.settings.negative_slope)


def _channels(x: Tensor) -> Tensor:
    """Channel attention of one cloud [N, C]."""
    return x @ (x.T @ x / len(x)).softmax(dim=1).T
