"""One training: the loop and its observers, batches, counting, checkpoints, processes that share it."""
