"""The vocabulary: heads, trainings, cells, jobs, and checks of user input.

Imports no other package of the study; only data_set_plugins does, to find data sets by name.
"""
