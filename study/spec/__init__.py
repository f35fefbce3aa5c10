"""The vocabulary: heads, trainings, cells, jobs, and checks of what users write. Imports nothing else of the study."""
