"""The paper: its tables, quotes, claims and figures, and how each claim is tested."""
