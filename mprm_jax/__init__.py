"""Weakly supervised point cloud segmentation from class tags (MPRM, CVPR 2020) in JAX."""
