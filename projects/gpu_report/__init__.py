"""What a first GPU can tell in one call: is it right, how fast is it, where does the time go, does it train.

Each part is a process of its own with a limit, and what it found is on the disk at once. What starts and ends
parts needs no library, so that a library that is missing or broken costs one part.
"""
