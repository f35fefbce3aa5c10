"""What ``make`` offers beside the stages: preview, rehearse, verify, gc, submission, compare."""
