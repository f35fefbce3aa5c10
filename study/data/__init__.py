"""Data sets: download, read, check and cache. One file a data set in ``sets/``."""
