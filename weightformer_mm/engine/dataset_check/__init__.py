"""Is a data set as the config says, before a training finds out? What ``tools/check_dataset.py`` calls."""

from __future__ import annotations

from .report import BadData, Report
from .run import SPLITS, check_dataset

__all__ = ['SPLITS', 'BadData', 'Report', 'check_dataset']
