"""The paper: its tables, quotes, claims and figures, and what each claim says of their cells."""
