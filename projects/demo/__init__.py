"""The demonstration: a detector and a segmentor on generated data, and pictures of what they see."""

from .pipeline import run_demo, ship
from .tasks import TASKS

__all__ = ['TASKS', 'run_demo', 'ship']
