"""What every room may use: errors in the user's words, signals, and files that appear whole."""
