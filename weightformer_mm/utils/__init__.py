"""What every subpackage may use: errors in the user's terms, signals, files that appear whole, patches."""
