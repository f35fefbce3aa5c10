"""The run store and the identity of runs: files, keys, the code digest, locks, stops, garbage."""
