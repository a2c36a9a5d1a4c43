"""The error of this data set."""

from __future__ import annotations

from ...errors import UserError


class ShapesError(UserError):
    """The set cannot be made as asked."""
