"""The report section by section: the text and the figures of each."""
