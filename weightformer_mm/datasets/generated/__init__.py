"""Folders of generated data: made whole or not at all, known again, and never mixed up with a user's own."""

from __future__ import annotations

from weightformer_mm.datasets.generated.files import write_image, write_json
from weightformer_mm.datasets.generated.folder import make_folder_once
from weightformer_mm.datasets.generated.manifest import Generator

__all__ = ['Generator', 'make_folder_once', 'write_image', 'write_json']
