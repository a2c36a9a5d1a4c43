"""Trainings as processes: several at a time, each in a folder that knows its state."""

from .folder import RunFolder, digest_of
from .jobs import Job, Usage, run_together
from .scalars import all_scalars, newest_of, newest_scalars

__all__ = [
    'Job',
    'RunFolder',
    'Usage',
    'all_scalars',
    'digest_of',
    'newest_of',
    'newest_scalars',
    'run_together',
]
