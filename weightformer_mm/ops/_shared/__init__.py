"""What the operations share; nothing here knows an operation."""
