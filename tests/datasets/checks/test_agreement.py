"""The check and a training judge by the same rules: seeded mutations of real sets, and both agree on each."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.annotation_mutations import COCO, spoil, wrong_labels
from tests.helpers.both_ways import SPLITS, agree, config_for
from tests.helpers.commands import DETECTION, SEGMENTATION

VARIANTS = 160


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


def test_both_agree_on_whether_there_is_something_to_learn(tiny_set, tmp_path):
    root = shutil.copytree(tiny_set, tmp_path / 'set')
    file = root / 'annotations/instances_train.json'
    original = json.loads(file.read_text())
    cfg = config_for(DETECTION, root)
    counts: Counter[str] = Counter()
    for seed in range(VARIANTS):
        draw = random.Random(seed)
        content = copy.deepcopy(original)
        spared = spoil(content, draw)
        file.write_text(json.dumps(content))
        filters = {'filter_empty_gt': draw.random() < 0.5, 'min_size': draw.choice([0, 32, 64, 65])}
        cfg.train_dataloader.dataset.filter_cfg = filters
        try:
            outcome = agree(cfg, 'train')
            assert outcome == 'refused' or spared
        except BaseException as error:
            raise AssertionError(f'seed {seed}: {filters}, {spared} objects are spared') from error
        counts[outcome] += 1
    print(f'something to learn: {dict(counts)}')
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
