"""Does a data set match the config? Checked before training would find out."""
