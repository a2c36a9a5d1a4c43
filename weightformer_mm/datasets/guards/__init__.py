"""Guards check the files of a data set while training reads them, and name a bad file."""
