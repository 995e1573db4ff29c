"""The training loop and what it needs: optimizer, steps, checkpoints, metrics."""
