"""From class scores of subclouds to pseudo-labels of scenes."""
