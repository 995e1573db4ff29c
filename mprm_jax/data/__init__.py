"""From files to scenes, from scenes to subclouds, from subclouds to buckets."""
