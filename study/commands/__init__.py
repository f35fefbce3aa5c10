"""The commands that ``make`` offers besides the stages: preview, rehearse, verify, gc, submission, compare ..."""
