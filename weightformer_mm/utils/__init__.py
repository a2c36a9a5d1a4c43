"""What every room may use: errors in the user's words, signals, files that appear whole, patches."""
