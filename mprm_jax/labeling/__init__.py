"""From class scores of balls to pseudo-labels of scenes."""
