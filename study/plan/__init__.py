"""What a tier trains: the paper's cells bound to trainings and evaluations, and the search's candidates."""
