"""What a network costs and what it sees."""

from .reach import static_reach

__all__ = ['static_reach']
