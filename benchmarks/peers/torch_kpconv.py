"""Kernel point convolutions in PyTorch, written for the benchmark from the papers' equations.

Gathers are `index_select` over rows with one more row for the shadow index, sums over kernel
points one matrix product. A deformable kernel reads only the neighbors that one of its points can
reach, as KPConv's own implementations do.
"""

import torch
from torch import Tensor

REPULSION_REACH = 1.5  # extents


def gather(rows: Tensor, index: Tensor, fill: float = 0.0) -> Tensor:
    """Rows [N, C] at [M, H]; the index N reads `fill`."""
    padded = torch.cat([rows, rows.new_full((1, rows.shape[1]), fill)])
    return padded.index_select(0, index.reshape(-1)).view(*index.shape, rows.shape[1])


def offsets_to(queries: Tensor, supports: Tensor, neighbors: Tensor) -> Tensor:
    """Neighbors relative to their queries, [M, H, 3]; a shadow neighbor is far away."""
    return gather(supports, neighbors, 1e6) - queries[:, None]


def sq_distances(offsets: Tensor, points: Tensor) -> Tensor:
    """[M, K, H] of neighbors [M, H, 3] to kernel points [K, 3] or [M, K, 3]."""
    points = points.expand(len(offsets), -1, -1)
    return sum((points[:, :, None, axis] - offsets[:, None, :, axis]).square() for axis in range(3))


def influence(sq_dist: Tensor, extent: float) -> Tensor:
    """1 at a kernel point, falling linearly to 0."""
    return (1 - sq_dist.clamp(min=1e-20).sqrt() / extent).clamp(min=0)


def kpconv(
    offsets: Tensor, neighbors: Tensor, x: Tensor, points: Tensor, weights: Tensor, extent: float
) -> Tensor:
    """Rigid convolution, [M, D]."""
    with torch.no_grad():
        near = influence(sq_distances(offsets, points), extent)
    return _mix(torch.bmm(near, gather(x, neighbors)), weights)


def deformable_kpconv(
    sq_dist: Tensor, neighbors: Tensor, x: Tensor, weights: Tensor, extent: float
) -> Tensor:
    """Convolution with deformed kernel points at squared distances [M, K, H]; [M, D]."""
    with torch.no_grad():
        reached = (sq_dist < extent**2).any(dim=1)
        width = max(int(reached.sum(dim=1).max()), 1)
        kept, chosen = reached.to(torch.int8).topk(width, dim=1)
        narrow = neighbors.gather(1, chosen).masked_fill(kept == 0, len(x))
    near = sq_dist.gather(2, chosen[:, None].expand(-1, sq_dist.shape[1], -1))
    near = influence(near, extent) * kept[:, None]
    return _mix(torch.bmm(near, gather(x, narrow)), weights)


def fitting_loss(sq_dist: Tensor, extent: float) -> Tensor:
    """Mean squared distance of deformed kernel points to their nearest neighbor, in extents."""
    filled = sq_dist.detach()[:, 0].amin(dim=1) < 1e10
    nearest = sq_dist.min(dim=2).values
    return nearest[filled].mean() / extent**2


def repulsion_loss(points: Tensor, filled: Tensor, extent: float) -> Tensor:
    """Mean over queries of how far deformed kernel points [M, K, 3] intrude on each other."""
    points = points / extent
    sq_dist = sq_distances(points.detach(), points)
    near = (sq_dist < REPULSION_REACH**2) & (sq_dist > 0)
    near &= ~torch.eye(points.shape[1], dtype=torch.bool)
    dist = torch.where(near, sq_dist, REPULSION_REACH**2).sqrt()
    return (REPULSION_REACH - dist).square().sum(dim=(1, 2))[filled].mean()


def neighbor_max(x: Tensor, pools: Tensor) -> Tensor:
    """Maximum of each channel over lists of rows; 0 where a list is empty."""
    largest = gather(x, pools, float("-inf")).max(dim=1).values
    return torch.where((pools < len(x)).any(dim=1)[:, None], largest, 0.0)


def _mix(gathered: Tensor, weights: Tensor) -> Tensor:
    """[M, K, C] with [K, C, D], summed over both."""
    return gathered.flatten(1) @ weights.flatten(0, 1)
