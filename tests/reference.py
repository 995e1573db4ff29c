"""Naive NumPy loops for every formula in `mprm_jax.ops`, and some beside it, in float64."""

import numpy as np


def gather_rows(rows, index, fill=0.0):
    result = np.full((*index.shape, *rows.shape[1:]), fill, np.float64)
    for place in np.ndindex(index.shape):
        if index[place] < len(rows):
            result[place] = rows[index[place]]
    return result


def kpconv(
    queries,
    supports,
    neighbors,
    features,
    *,
    kernel_points,
    weights,
    extent,
    offsets=None,
    modulations=None,
):
    """Rigid, or deformable if `offsets` are given."""
    result = np.zeros((len(queries), weights.shape[2]))
    for m in range(len(queries)):
        for n in neighbors[m]:
            if n == len(supports):
                continue
            for k in range(len(kernel_points)):
                point = kernel_points[k] + (0 if offsets is None else offsets[m, k])
                dist = np.linalg.norm(supports[n] - queries[m] - point)
                factor = max(0.0, 1.0 - dist / extent)
                factor *= 1.0 if modulations is None else modulations[m, k]
                result[m] += factor * (features[n] @ weights[k])
    return result


def find_reach(queries, supports, neighbors, *, kernel_points, offsets, extent):
    reached = np.full(neighbors.shape, len(supports))
    nearest = np.full((len(queries), len(kernel_points)), len(supports))
    for m in range(len(queries)):
        points = queries[m] + kernel_points + offsets[m]
        found = [n for n in neighbors[m] if n < len(supports)]
        inside = [n for n in found if np.linalg.norm(points - supports[n], axis=1).min() < extent]
        reached[m, : len(inside)] = inside
        for k in range(len(points) if found else 0):
            nearest[m, k] = min(found, key=lambda n, k=k: np.linalg.norm(supports[n] - points[k]))
    return reached, nearest


def fitting_loss(queries, supports, neighbors, *, kernel_points, offsets, extent):
    total, count = 0.0, 0
    for m in range(len(queries)):
        found = [n for n in neighbors[m] if n < len(supports)]
        for k in range(len(kernel_points) if found else 0):
            point = queries[m] + kernel_points[k] + offsets[m, k]
            total += min(np.sum((supports[n] - point) ** 2) for n in found) / extent**2
            count += 1
    return total, count


def repulsion_loss(neighbors, num_supports, *, kernel_points, offsets, extent):
    total, count = 0.0, 0
    for m in range(len(neighbors)):
        if all(n == num_supports for n in neighbors[m]):
            continue
        count += 1
        points = (kernel_points + offsets[m]) / extent
        for k in range(len(points)):
            for other in range(len(points)):
                if other != k:
                    dist = np.linalg.norm(points[k] - points[other])
                    total += max(0.0, 1.5 - dist) ** 2
    return total, count


def neighbor_max(features, pools):
    result = np.zeros((len(pools), features.shape[1]))
    for m in range(len(pools)):
        found = [n for n in pools[m] if n < len(features)]
        if found:
            result[m] = np.max([features[n] for n in found], axis=0)
    return result


def cloud_mean(scores, clouds, num_clouds):
    result = np.zeros((num_clouds, scores.shape[1]))
    for cloud in range(num_clouds):
        if any(clouds == cloud):
            result[cloud] = np.mean(scores[clouds == cloud].astype(np.float64), axis=0)
    return result


def cloud_log_mean_exp(scores, clouds, num_clouds, sharpness):
    result = np.zeros((num_clouds, scores.shape[1]))
    for cloud in range(num_clouds):
        if any(clouds == cloud):
            rows = np.exp(sharpness * scores[clouds == cloud].astype(np.float64))
            result[cloud] = np.log(np.mean(rows, axis=0)) / sharpness
    return result


def spatial_attention(queries, keys, values, mask):
    result = np.zeros(values.shape)
    points = np.flatnonzero(mask)
    for j in points:
        energy = np.array([np.dot(keys[i].astype(np.float64), queries[j]) for i in points])
        weights = np.exp(energy - energy.max()) / np.sum(np.exp(energy - energy.max()))
        for i, weight in zip(points, weights, strict=True):
            result[j] += weight * values[i]
    return result


def channel_attention(features, mask):
    result = np.zeros(features.shape)
    rows = features[mask].astype(np.float64)
    if not len(rows):
        return result
    for j in range(features.shape[1]):
        energy = np.array([np.mean(rows[:, i] * rows[:, j]) for i in range(features.shape[1])])
        weights = np.exp(energy - energy.max()) / np.sum(np.exp(energy - energy.max()))
        result[mask, j] = sum(weights[i] * rows[:, i] for i in range(features.shape[1]))
    return result


def point_loss(logits, labels, weights):
    total = count = 0.0
    for row, label in zip(logits, labels, strict=True):
        if label >= 0:
            total += weights[label] * (np.log(np.sum(np.exp(row))) - row[label])
            count += weights[label]
    return total, count


def multilabel_loss(logits, labels, real):
    total, count = 0.0, 0
    for cloud in np.flatnonzero(real):
        for logit, label in zip(logits[cloud].astype(np.float64), labels[cloud], strict=True):
            total += np.log1p(np.exp(-logit)) if label else np.log1p(np.exp(logit))
            count += 1
    return total, count


def lovasz_loss(logits, labels, clouds, num_clouds):
    total = count = 0.0
    for cloud in range(num_clouds):
        rows = np.flatnonzero((clouds == cloud) & (labels >= 0))
        exps = np.exp(logits[rows].astype(np.float64))
        losses = []
        for c in np.unique(labels[rows]):
            truth = labels[rows] == c
            errors = np.abs(truth - exps[:, c] / exps.sum(axis=1))
            order, wrong, jaccard, loss = np.argsort(-errors, kind="stable"), set(), 0.0, 0.0
            for row in order:
                wrong.add(row)
                hit = sum(truth[i] and i not in wrong for i in range(len(rows)))
                union = sum(truth[i] or i in wrong for i in range(len(rows)))
                loss += errors[row] * (1 - hit / union - jaccard)
                jaccard = 1 - hit / union
            losses.append(loss)
        if losses:
            total, count = total + np.mean(losses), count + 1
    return total, count


def surface_normals(queries, supports, num_neighbors, radius):
    result = np.zeros((len(queries), 3))
    for row, query in enumerate(queries):
        dist = np.linalg.norm(supports - query, axis=1)
        near = [n for n in np.argsort(dist)[:num_neighbors] if dist[n] < radius]
        if len(near) >= 3:
            centered = supports[near] - supports[near].mean(axis=0)
            result[row] = np.linalg.svd(centered)[2][2]
    return result


def sign_free(normals):
    """The entries of n nᵀ; those off the diagonal occur twice in its squared norm."""
    rows = []
    for x, y, z in normals.astype(np.float64):
        rows.append([x * x, y * y, z * z] + [np.sqrt(2) * p for p in (x * y, x * z, y * z)])
    return np.array(rows).reshape(-1, 6)


def mean_axes(normals, group, num_groups):
    result = np.zeros((num_groups, 3))
    for row in range(num_groups):
        own = normals[group == row]
        if own.any():
            result[row] = np.linalg.svd(own)[2][0]
    return result


def gaussian_filter(features, values):
    """Sums over all pairs, a point and itself included."""
    result = np.zeros(values.shape)
    for i in range(len(features)):
        for j in range(len(features)):
            sq_dist = np.sum((features[i].astype(np.float64) - features[j]) ** 2)
            result[i] += np.exp(-0.5 * sq_dist) * values[j]
    return result


def lattice_filter(features, values, *, transpose=False):
    """Splat, blur and slice on a permutohedral lattice whose vertices are keys of a dict."""
    num_dims = features.shape[1]
    size = num_dims + 1
    basis = np.zeros((size, num_dims))
    for i in range(num_dims):
        basis[: i + 1, i], basis[i + 1, i] = 1, -(i + 1)
        basis[:, i] /= np.linalg.norm(basis[:, i])
    corners = [_simplex_corners(basis @ f * np.sqrt(2 / 3) * size) for f in features]
    lattice = {}
    for value, simplex in zip(values, corners, strict=True):
        for vertex, weight in simplex:
            lattice[vertex] = lattice.get(vertex, 0) + weight * value.astype(np.float64)
    for axis in range(num_dims, -1, -1) if transpose else range(size):
        step = np.full(size, -1)
        step[axis] += size
        lattice = {
            vertex: value
            + 0.5 * lattice.get(tuple(vertex + step), 0)
            + 0.5 * lattice.get(tuple(vertex - step), 0)
            for vertex, value in lattice.items()
        }
    scale = 1 / (1 + 2.0**-num_dims)
    return scale * np.array([sum(w * lattice[v] for v, w in simplex) for simplex in corners])


def _simplex_corners(position):
    """Pairs of a lattice vertex and its barycentric weight, for a position of sum 0."""
    size = len(position)
    base = np.round(position / size).astype(int) * size
    while base.sum() > 0:
        base[np.argmin(position - base)] -= size
    while base.sum() < 0:
        base[np.argmax(position - base)] += size
    order = np.argsort(-(position - base), kind="stable")  # largest rest first
    rest = (position - base)[order] / size
    corners = []
    for remainder in range(size):
        vertex = base + remainder
        vertex[order[size - remainder :]] -= size
        before = rest[size - 1 - remainder]
        after = rest[size - remainder] if remainder else rest[0] - 1
        corners.append((tuple(vertex), before - after))
    return corners


def mean_field(unary, kernels, weights, num_iterations, compatibility, sender, normalization):
    """Kernels are [N, N] matrices."""
    num_points, num_classes = unary.shape
    marginals = _gibbs(unary.astype(np.float64))
    for _ in range(num_iterations):
        energies = unary.astype(np.float64)
        for kernel, weight in zip(kernels, weights, strict=True):
            sums = kernel @ sender
            for i in range(num_points):
                for j in range(num_points):
                    scale = {
                        "none": 1,
                        "before": 1 / sums[j],
                        "after": 1 / sums[i],
                        "symmetric": 1 / np.sqrt(sums[i] * sums[j]),
                    }[normalization]
                    message = weight * kernel[i, j] * scale * sender[j]
                    for c in range(num_classes):
                        energies[i, c] += message * np.dot(compatibility[c], marginals[j])
        marginals = _gibbs(energies)
    return marginals


def _gibbs(energies):
    shares = np.exp(-(energies - energies.min(axis=1, keepdims=True)))
    return shares / shares.sum(axis=1, keepdims=True)


def count_candidates(queries, supports, size):
    """Supports in the 27 cells around each query."""
    cells = [
        np.floor(np.asarray(points, np.float32) / np.float32(size))
        for points in (queries, supports)
    ]
    return np.array([sum(np.all(np.abs(cells[1] - cell) <= 1, axis=1)) for cell in cells[0]])
