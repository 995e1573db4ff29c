"""From any cloud to a label for each of its points."""
