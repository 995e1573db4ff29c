"""From files to scans: readers of file formats and of data sets."""
