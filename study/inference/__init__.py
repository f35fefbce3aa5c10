"""Trained networks at work: scales, crops, CRF, receptive fields, predictions for a benchmark's server."""
