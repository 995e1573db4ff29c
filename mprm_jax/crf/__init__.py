"""Fully connected conditional random fields over points, usable without the rest of the package."""
