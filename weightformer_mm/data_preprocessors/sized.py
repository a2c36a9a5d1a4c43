from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmengine.registry import MODELS

from ..backbones.base import set_image_sizes

_BASES = {'mmdet': 'DetDataPreprocessor', 'mmseg': 'SegDataPreProcessor'}


@MODELS.register_module()
def SizedDetDataPreprocessor(  # noqa: N802  the name of the class that it builds
    test_pad_size_divisor: int | None = None, **options: Any
) -> BaseDataPreprocessor:
    """mmdet's ``DetDataPreprocessor``, which also notes the size of each image: see `at_own_sizes`.

    Args:
        test_pad_size_divisor: ``pad_size_divisor`` outside of training, None for the same. 1 suits heads and
            necks that take maps of any size, as FPN does; PAFPN does not.
        options: of mmdet's class.
    """
    preprocessor = _sized('mmdet')(**options)
    preprocessor.test_pad_size_divisor = test_pad_size_divisor
    return preprocessor


@MODELS.register_module()
def SizedSegDataPreprocessor(**options: Any) -> BaseDataPreprocessor:  # noqa: N802
    """mmseg's ``SegDataPreProcessor``, which also notes the size of each image: see `at_own_sizes`."""
    return _sized('mmseg')(**options)


@cache
def _sized(library: str) -> type[ImgDataPreprocessor]:
    """A subclass of a library's preprocessor, which is imported only where it is used."""
    base = getattr(import_module(f'{library}.models'), _BASES[library])

    class Sized(base):
        notes_sizes = True
        test_pad_size_divisor: int | None = None

        def forward(self, data: dict, training: bool = False) -> dict:
            images, divisor = data['inputs'], self.pad_size_divisor
            if self.test_pad_size_divisor is not None and not training:
                self.pad_size_divisor = self.test_pad_size_divisor
            try:
                data = super().forward(data, training)
            finally:
                self.pad_size_divisor = divisor
            if self.notes_sizes:
                # augmentation of a batch changes what the samples say
                samples = data['data_samples'] or [{}] * len(images)
                pairs = zip(images, samples)
                sizes = [sample.get('img_shape', image.shape[-2:])[:2] for image, sample in pairs]
                set_image_sizes(data['inputs'], sizes)
            return data

    Sized.__name__ = Sized.__qualname__ = f'_sized_{library}'
    return Sized


def __getattr__(name: str) -> type:
    """The classes, where pickle looks for them."""
    library = name.removeprefix('_sized_')
    if library in _BASES and library != name:
        return _sized(library)
    raise AttributeError(name)
