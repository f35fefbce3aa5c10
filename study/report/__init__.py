"""The report: tables as text, figures, Typst templates, digests of what was made."""
