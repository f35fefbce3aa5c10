"""The report section by section: what each says, as text, and its figures."""
