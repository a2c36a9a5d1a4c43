"""The folder of one run, and what is already done for the present config and data."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from weightformer_mm.errors import UserError
from weightformer_mm.utils.writing import written_whole

if TYPE_CHECKING:
    from mmengine.config import Config


def digest_of(cfg: Config, data: str) -> str:
    """Digest of a whole config and of a text that tells its data from others, such as a manifest."""
    return hashlib.sha256((cfg.dump() + data).encode()).hexdigest()


class RunFolder:
    """A folder with a state file, which holds a digest of what the run is made from.

    If the digest no longer fits, earlier results do not count.

    Args:
        root: the folder; only the run writes to it.
        state_file: name of the state file; it marks the folder as the run's.
    """

    def __init__(self, root: Path, state_file: str):
        self.root = root
        self._state = root / state_file

    def read_state(self) -> dict:
        return json.loads(self._state.read_text()) if self._state.is_file() else {}

    def write_state(self, **changes) -> None:
        with written_whole(self._state) as partial:
            partial.write_text(json.dumps({**self.read_state(), **changes}, indent=2) + '\n')

    def claim(self, digest: str, writer: str, force: bool = False) -> None:
        """Make the folder; remove results of another digest, or with ``force`` any results.

        Raises:
            UserError: it holds something that ``writer``, as the message names it, did not write.
        """
        if self.root.is_dir() and (force or self.read_state().get('digest') != digest):
            self.empty(writer)
        self.root.mkdir(parents=True, exist_ok=True)
        self.write_state(digest=digest)

    def empty(self, writer: str) -> None:
        """Remove everything in it, unless it holds something that ``writer`` did not write."""
        if any(self.root.iterdir()) and not self._state.is_file():
            raise UserError(f'{self.root} holds files that {writer} did not write; move them away')
        shutil.rmtree(self.root)
