"""The folder of one run, and its record among the results."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from ..runs import Job, RunFolder, digest_of, newest_of, newest_scalars
from .plan import Run, files_of

STATE_FILE = 'real_pictures_run.json'
COMMAND = 'tools/real_pictures.py'


class Training(RunFolder):
    """The folder of one run, and its record among the results.

    Args:
        run: what is trained.
        work_dir: folder of all runs.
        results: folder of all records.
    """

    def __init__(self, run: Run, work_dir: Path, results: Path):
        super().__init__(work_dir / run.name, STATE_FILE)
        self.run, self.record = run, results / f'{run.name}.json'
        self.log = Path(f'{self.root}.log')  # outside, as a folder may be emptied
        self._places = ['--work-dir', str(work_dir), '--results', str(results)]

    def prepare(self, digest: str, commit: str) -> None:
        """Claim the folder; what another config left is removed, an interrupted run of this one is kept."""
        self.claim(digest, COMMAND)
        is_begun = any(self.root.glob('*.pth'))
        commits = self.read_state().get('commits', []) if is_begun else []
        self.write_state(commits=list(dict.fromkeys([*commits, commit])))

    def is_recorded(self) -> bool:
        """Whether there is a record of the present config and data."""
        if not self.record.is_file():
            return False
        cfg = self.run.load_config()
        digest = digest_of(cfg, files_of(cfg))
        return json.loads(self.record.read_text(encoding='utf-8')).get('digest') == digest

    def job(self) -> Job:
        options = [
            f'--{name}={value}'
            for name, value in dataclasses.asdict(self.run).items()
            if value is not None
        ]
        program = ('-m', f'{__package__}.one_run')
        return Job((*program, *options, *self._places), self.log)

    def step(self) -> int:
        """Iterations so far."""
        line = newest_of(newest_scalars(self.root), 'loss')
        return line['step'] if line else 0
