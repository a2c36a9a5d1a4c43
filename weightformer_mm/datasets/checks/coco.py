"""Checks of data sets in COCO's formats: detection, instance and panoptic segmentation."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from PIL import Image

from ...errors import UserError
from .coco_fields import FILE, field_findings, file_name, read_coco
from .coco_uses import Evaluation, Reading, is_panoptic
from .images import present_images, read_all, read_images
from .learning import NO_OBJECT
from .pixels import size_problem
from .report import Report


def check_coco(
    report: Report,
    dataset: Any,
    evaluations: Iterable[Evaluation],
    everything: bool,
    alone: bool = True,
) -> None:
    """Check one of mmdet's data sets, built with ``lazy_init``, and the evaluations by its file.

    With ``everything``, read every image instead of a sample. ``alone``: as that of `Reading`.
    """
    own = annotation_file(dataset)
    report.looked(FILE, 1)
    try:
        content = read_coco(own)
    except UserError as error:
        report.error(FILE, 'cannot be read as JSON', str(error))
        return
    reading = Reading.of(dataset, alone)
    found = list(field_findings(content, reading.fields, reading.unneeded()))
    if not found:
        # an evaluator of the same file finds much of it once more
        uses = (reading, *evaluations)
        found = list(dict.fromkeys(f for use in uses for f in use.findings(content)))
        report.looked('classes', len(reading.classes))
        report.looked('annotations', len(content.get('annotations', ())))
    report.add(found)
    if any(finding.check == FILE for finding in found):  # the other checks would fail on them
        return
    if reading.trains and reading.objects:
        report.teaches = all(finding.what != NO_OBJECT for finding in found)
    _check_images(report, dataset, content['images'], everything)
    if is_panoptic(dataset):
        _check_segments(report, dataset, content['images'])


def _check_images(report: Report, dataset: Any, images: list[dict], everything: bool) -> None:
    report.looked('images', len(images))
    prefix = dataset.data_prefix.get('img', '')
    items = [{**image, 'img_path': os.path.join(prefix, file_name(image))} for image in images]
    present = present_images(report, items)
    for item, shape in read_images(report, dataset, present, len(images), everything):
        problem = shape and size_problem(shape, item)
        if problem:
            report.error('images read', problem[0], f'{item["img_path"]} {problem[1]}')


def _check_segments(report: Report, dataset: Any, images: list[dict]) -> None:
    """Is the label image of each image there, in its size? Its name is that of the image, as mmdet has it."""
    folder = dataset.data_prefix.get('seg')
    if not folder or '://' in folder:
        report.note('labels', 'no folder of label images (data_prefix.seg) that can be looked at')
        return
    report.looked('labels', len(images))

    def read(image: dict) -> tuple[str, str] | None:
        path = os.path.join(folder, image['file_name'].replace('.jpg', '.png'))
        try:
            with Image.open(path) as labels:  # reads no more than its head
                problem = size_problem(labels.size[::-1], image)
        except Image.DecompressionBombError as error:
            raise UserError(f'{path}: {error}') from error
        return problem and (problem[0], f'{path} {problem[1]}')

    for _, problem in read_all(report, 'labels', images, read):
        if problem:
            report.error('labels', *problem)


def annotation_file(dataset: Any) -> str:
    """Real path of the file that a data set for which `is_coco` reads; a UserError if it names none."""
    if not dataset.ann_file:
        raise UserError(
            f"data set {type(dataset).__name__} has no ann_file, a file in COCO's format"
        )
    return os.path.realpath(dataset.ann_file)
