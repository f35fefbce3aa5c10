"""The run store and what makes a run the one it is: files, keys, the code digest, locks, stops, garbage."""
