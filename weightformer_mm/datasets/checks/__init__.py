"""Is a data set as the config says, before a training finds out?"""
