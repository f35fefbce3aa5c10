"""Checks a GPU before weeks of it are spent: the same numbers as on a CPU, resuming, missing memory, sharing, loaders,
and speed. Needs only torch, torchvision and numpy, so a bare GPU machine can run it."""
