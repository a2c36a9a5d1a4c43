"""Which errors of the libraries' data sets are about the data."""

from __future__ import annotations

import os
import traceback
from typing import Any
from xml.etree.ElementTree import ParseError

from ...config.read import type_name
from ...utils.blame import file_read

_LIBRARIES = ('mmdet.datasets.', 'mmseg.datasets.', 'mmpretrain.datasets.', 'mmengine.dataset.')
_OF_CONFIG = ('.transforms', '.dataset_wrapper')  # of the libraries: they read no annotations
_REFUSALS = (AssertionError, ImportError, RuntimeError, ValueError)  # whose texts are for users


def reading_problem(error: Exception, node: dict) -> str | None:
    """Why a library's data set, given by its config, cannot be read; None for a programming error."""
    path = os.path.join(node.get('data_root') or '', node.get('ann_file') or '')
    if isinstance(error, UnicodeDecodeError):
        return f'{file_read(error) or path} is not UTF-8: {error}; save it in this encoding'
    if isinstance(error, ParseError):
        return f'{file_read(error) or path} is not valid XML: {error}; is it truncated?'
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if 'need at least one array' in str(error):
        datasets = (frame.f_locals.get('self') for frame in frames)
        empty = next((x for x in datasets if hasattr(x, 'img_suffix')), None)
        if empty is not None:  # to ask whether it is true would load it again
            return f'data set {type_name(node)}: {no_image_of(empty)}'
        return (
            f'no image of {path} is left to use: none is there, or none passes filter_cfg with objects of '
            "the data set's classes (metainfo); are the class names those of the file?"
        )
    modules = [frame.f_globals['__name__'] for frame in frames]
    own = [frame for frame, name in zip(frames, modules) if name.startswith(_LIBRARIES)]
    if own and any(part in own[-1].f_globals['__name__'] for part in _OF_CONFIG):
        return None
    if own and isinstance(error, OSError) and error.filename:
        return f'data set {type_name(node)}, {path}: {error.filename}: {error.strerror}'
    path = file_read(error, '.xml') or path  # one of VOC's, which its list of images names
    if own and isinstance(error, _REFUSALS):
        return f'data set {type_name(node)}, {path}: {error}'
    if any(frame.f_code.co_name in ('load_data_list', 'filter_data') for frame in own):
        return f'data set {type_name(node)}, {path} cannot be read: {type(error).__name__}: {error}'
    return None


def no_image_of(dataset: Any) -> str:
    """Why one of mmseg's data sets has no image."""
    if dataset.ann_file:
        return f'{dataset.ann_file} lists no image that is left to use'
    folder = dataset.data_prefix.get('img_path')
    return f'no image in {folder} ends in {dataset.img_suffix!r} (img_suffix)'
