"""Formulas on flat packed rows, as pure functions of arrays."""
