"""The files of a set: pictures, label PNGs, COCO JSON and, of single objects, lists of classes."""

from __future__ import annotations

import os
from pathlib import Path

from tqdm import tqdm

from weightformer_mm.datasets.generated import make_folder_once, write_image, write_json
from weightformer_mm.datasets.shapes.classes import CLASSES
from weightformer_mm.datasets.shapes.coco import annotate, categories
from weightformer_mm.datasets.shapes.manifest import GENERATOR, ShapesConfig
from weightformer_mm.datasets.shapes.scene import SPLITS, render_sample


def make_shapes(
    out: str | os.PathLike, config: ShapesConfig, force: bool = False, progress: bool = True
) -> bool:
    """Make the set ``config`` in the folder ``out`` unless it is already there.

    Returns:
        True if the set was made, False if it was there.

    Raises:
        ShapesError: ``out`` holds something else, or another run is writing it.
        OSError: a file cannot be written.
    """
    return make_folder_once(
        out,
        GENERATOR,
        config.parameters(),
        lambda folder: write_files(folder, config, progress),
        force,
    )


def write_files(folder: Path, config: ShapesConfig, progress: bool = True) -> None:
    """Write all files of both splits below ``folder``.

    Raises:
        OSError: a file cannot be written.
    """
    counts = {split: getattr(config, split) for split in SPLITS}
    with tqdm(
        total=sum(counts.values()), desc='shapes', unit='image', disable=not progress
    ) as progress_bar:
        for split, count in counts.items():
            _write_split(folder, split, count, config, progress_bar)


def _write_split(
    folder: Path, split: str, count: int, config: ShapesConfig, progress_bar: tqdm
) -> None:
    for name in ('images', 'annotations'):
        (folder / name / split).mkdir(parents=True)
    images, annotations, classes = [], [], []
    for index in range(count):
        sample = render_sample(
            config.seed, split, index, config.size, config.single, config.context_rules()
        )
        file_name = f'{index:06d}.png'
        write_image(folder / 'images' / split / file_name, sample.image)
        write_image(folder / 'annotations' / split / file_name, sample.labels)
        images.append(
            {'id': index, 'file_name': file_name, 'width': config.size, 'height': config.size}
        )
        # From 1 on: COCO's evaluator takes an annotation of id 0 for "no match".
        annotations += annotate(sample, index, first_id=len(annotations) + 1)
        classes.append(f'{file_name} {CLASSES.index(sample.objects[0].kind)}\n')
        progress_bar.update()
    content = {
        'images': images,
        'annotations': annotations,
        'categories': categories(config.class_names()),
    }
    write_json(folder / 'annotations' / f'instances_{split}.json', content)
    if config.single:  # as mmpretrain's CustomDataset reads them: name and class, from 0 on
        path = folder / 'annotations' / f'classes_{split}.txt'
        path.write_text(''.join(classes), encoding='utf-8')
