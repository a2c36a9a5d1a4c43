"""What the operations share; nothing here depends on a particular operation."""
