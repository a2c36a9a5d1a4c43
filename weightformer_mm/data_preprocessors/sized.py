from __future__ import annotations

from functools import cache
from typing import Any

from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmengine.registry import MODELS

from ..backbones.base import set_image_sizes


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
    from mmdet.models import DetDataPreprocessor

    preprocessor = _sized(DetDataPreprocessor)(**options)
    preprocessor.test_pad_size_divisor = test_pad_size_divisor
    return preprocessor


@MODELS.register_module()
def SizedSegDataPreprocessor(**options: Any) -> BaseDataPreprocessor:  # noqa: N802
    """mmseg's ``SegDataPreProcessor``, which also notes the size of each image: see `at_own_sizes`."""
    from mmseg.models import SegDataPreProcessor

    return _sized(SegDataPreProcessor)(**options)


@cache
def _sized(base: type[ImgDataPreprocessor]) -> type[ImgDataPreprocessor]:
    """A subclass of a library's preprocessor, which is imported only where it is used."""

    class Sized(base):
        test_pad_size_divisor: int | None = None

        def forward(self, data: dict, training: bool = False) -> dict:
            inputs, divisor = data['inputs'], self.pad_size_divisor
            if self.test_pad_size_divisor is not None and not training:
                self.pad_size_divisor = self.test_pad_size_divisor
            data = super().forward(data, training)
            self.pad_size_divisor = divisor
            # augmentation of a batch changes what the samples say
            samples = data['data_samples'] or [None] * len(inputs)
            sizes = [
                image.shape[-2:] if sample is None else sample.img_shape[:2]
                for image, sample in zip(inputs, samples)
            ]
            set_image_sizes(data['inputs'], sizes)
            return data

    Sized.__name__ = Sized.__qualname__ = f'Sized{base.__name__}'
    return Sized
