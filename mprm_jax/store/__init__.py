"""What prepare writes and everyone reads: scenes, their manifest, pseudo-label exports."""
