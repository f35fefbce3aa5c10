"""The vocabulary: heads, trainings, cells, jobs, and checks of what users write. Imports nothing else of the study
(but data_set_plugins, which finds data sets by name)."""
