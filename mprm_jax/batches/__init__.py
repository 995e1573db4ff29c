"""From prepared scenes to balls, from balls to buckets of fixed sizes."""
