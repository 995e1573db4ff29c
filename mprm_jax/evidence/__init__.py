"""What people say of scans, and what it means for their points: tags, weak labels."""
