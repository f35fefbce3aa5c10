"""Measurements that are not tests: settings tried on the tune split, and overheads as ratios."""
