"""The page in the browser: tag scans, look at what a network made of them, tag where it helps."""
