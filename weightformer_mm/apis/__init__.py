"""What the command lines in ``tools/`` call.

The import needs no OpenMMLab library, so that a tool can say what is missing.
"""

from __future__ import annotations

from .tool import run_tool

__all__ = ['run_tool']
