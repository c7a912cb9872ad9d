"""What the notebooks ask, one question per file."""
