"""Data sets: download, read, check and cache. One file per data set in ``sets/``."""
