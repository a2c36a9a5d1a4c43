"""What the networks learn from real pictures: the runs that docs/real_pictures.md reports."""
