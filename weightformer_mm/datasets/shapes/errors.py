"""The error of this data set."""

from __future__ import annotations


class ShapesError(Exception):
    """The set cannot be made as asked; the message is one line for the user."""
