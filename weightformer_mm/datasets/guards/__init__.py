"""Files of a data set that are looked at while a training reads them, and named when they are bad."""
