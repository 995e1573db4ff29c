"""Flax modules: parameters and wiring around the formulas in ops."""
