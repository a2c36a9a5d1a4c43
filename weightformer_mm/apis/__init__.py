"""What the command lines in ``tools/`` call."""
