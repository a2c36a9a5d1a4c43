"""The check and a training judge by the same rules: seeded mutations of real sets, and both agree on each."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.annotation_mutations import COCO, wrong_labels
from tests.helpers.both_ways import SPLITS, checked, config_for, loaded
from tests.helpers.commands import DETECTION, SEGMENTATION

VARIANTS = 160


def agree(cfg, split: str) -> str:
    """Whether both refuse the data; which ones is an assertion."""
    errors, line = checked(cfg, (split,)), loaded(cfg, (split,))
    assert bool(errors) == bool(line), (errors, line)
    if not line:
        return 'learns'
    assert all('\n' not in error for error in errors)
    return 'refused'


@pytest.mark.parametrize('group', COCO)
def test_both_agree_on_annotation_files(group, tiny_set, tmp_path):
    root = shutil.copytree(tiny_set, tmp_path / 'set')
    files = {split: root / f'annotations/instances_{split}.json' for split in SPLITS}
    contents = {split: json.loads(file.read_text()) for split, file in files.items()}
    cfg = config_for(DETECTION, root)
    counts: Counter[str] = Counter()
    for seed in range(VARIANTS):
        draw = random.Random(seed)
        split = draw.choice(SPLITS)
        content = copy.deepcopy(contents[split])
        change = draw.choice(COCO[group])
        change(content, draw)
        files[split].write_text(json.dumps(content))
        try:
            counts[agree(cfg, split)] += 1
        except BaseException as error:
            raise AssertionError(f'seed {seed}: {change.__name__} of {split}') from error
        files[split].write_text(json.dumps(contents[split]))
    print(f'{group}: {dict(counts)}')
    assert min(counts['learns'], counts['refused']) > VARIANTS // 10


def restore(root: Path, files: dict[str, bytes]) -> None:
    """Give the files below a folder the contents that they had."""
    for path in root.rglob('*'):
        if path.is_file() and path.relative_to(root).as_posix() not in files:
            path.unlink()
    for name, data in files.items():
        if not (root / name).exists() or (root / name).read_bytes() != data:
            (root / name).write_bytes(data)


def test_both_agree_on_label_images(tiny_set, tmp_path, read_tree):
    root = Path(shutil.copytree(tiny_set, tmp_path / 'set'))
    files = read_tree(root)
    cfg = config_for(SEGMENTATION, root)
    counts: Counter[str] = Counter()
    for seed in range(VARIANTS):
        restore(root, files)
        draw = random.Random(seed)
        split = draw.choice(SPLITS)
        wrong_labels(root, split, draw)
        try:
            counts[agree(cfg, split)] += 1
        except BaseException as error:
            raise AssertionError(f'seed {seed} of {split}') from error
    print(f'labels: {dict(counts)}')
    assert min(counts['learns'], counts['refused']) > VARIANTS // 10
