"""Writing single files of a set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image, uint8 ``(H, W)`` or BGR ``(H, W, 3)``, in the format that the suffix names.

    Raises:
        OSError: the file cannot be written.
    """
    # Not cv2.imwrite, which returns False where a full disk should raise.
    _, data = cv2.imencode(path.suffix, image)
    path.write_bytes(data.tobytes())


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding='utf-8')
