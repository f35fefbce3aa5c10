"""Inference with trained networks: scales, crops, CRF, receptive fields, predictions for a benchmark's server."""
