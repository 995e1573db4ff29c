"""Host geometry in NumPy and SciPy: voxels, neighbors, kernels, pyramids, augmentation."""
