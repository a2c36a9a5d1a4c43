"""Config files: read safely, changed from the command line, checked."""
