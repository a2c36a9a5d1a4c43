"""The networks that can be measured, by name: a backbone, and ``+variant`` for each change to it.

None has stochastic depth or pretrained weights, and each gives all the scales it has, so that all do the same
kind of work.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from weightformer_mm.errors import UserError
from weightformer_mm.utils.libraries import require_libraries

PYRAMID_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    Attributes:
        build: makes the network on the CPU; takes the options of the variants.
        strides: of its outputs, in pixels.
        ours: whether the variants of this package's backbones apply.
        square: whether it takes square images only.
        library: an OpenMMLab library that it comes from.
    """

    build: Callable[..., nn.Module]
    strides: tuple[int, ...] = PYRAMID_STRIDES
    ours: bool = False
    square: bool = False
    library: str | None = None


def _own(kind: str, arch: str, **options: Any) -> nn.Module:
    from weightformer_mm import backbones

    return getattr(backbones, kind)(arch=arch, **options)


def _baseline(kind: str, arch: str) -> nn.Module:
    from . import baselines

    return getattr(baselines, kind)(arch)


def _timm(name: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, features_only=True, **options)


def _swin_tiny() -> nn.Module:
    from mmengine.registry import MODELS

    with MODELS.switch_scope_and_registry('mmdet') as registry:
        return registry.build(
            dict(
                type='SwinTransformer',
                embed_dims=96,
                depths=(2, 2, 6, 2),
                num_heads=(3, 6, 12, 24),
                window_size=7,
                mlp_ratio=4,
                qkv_bias=True,
                drop_path_rate=0.0,
                patch_norm=True,
                out_indices=(0, 1, 2, 3),
            )
        )


def _table() -> dict[str, Entry]:
    isotropic, pyramid = ('tiny', 'small', 'base'), ('micro', 'nano', 'tiny', 'small', 'base')
    table = {
        f'weightformer-{arch}': Entry(partial(_own, 'WeightFormer', arch), (16,), ours=True)
        for arch in isotropic
    }
    table.update(
        (f'pyramid-{arch}', Entry(partial(_own, 'PyramidWeightFormer', arch), ours=True))
        for arch in pyramid
    )
    table.update(
        (
            f'published-{arch}',
            Entry(partial(_baseline, 'PublishedWeightFormer', arch), (16,), square=True),
        )
        for arch in ('tiny', 'small')
    )
    table.update(
        (f'plain-pyramid-{arch}', Entry(partial(_baseline, 'PlainPyramid', arch)))
        for arch in ('micro', 'tiny', 'small')
    )
    table['swin-tiny'] = Entry(_swin_tiny, library='mmdet')
    for name in ('convnext_tiny', 'pvt_v2_b2', 'pvt_v2_b2_li'):
        table[name] = Entry(partial(_timm, name))
    deit = 'deit_small_patch16_224'
    table[deit] = Entry(
        partial(_timm, deit, out_indices=(-1,), dynamic_img_size=True, dynamic_img_pad=True), (16,)
    )
    return table


TABLE = _table()
# arguments of this package's backbones; compiling is for every contender
VARIANTS: dict[str, dict[str, Any]] = {
    'memory': dict(memory_efficient=True),
    'cp': dict(with_cp=True),
    'attention': dict(token_mixer='attention'),
    'torch': dict(backend='torch'),
    'triton': dict(backend='triton'),
    'compile': {},
}
# these change what is computed, the others only how
_DIFFERENT_WORK = ('attention',)


@dataclass(frozen=True)
class Contender:
    """A network to measure.

    Attributes:
        base: its name in `TABLE`.
        variants: names in `VARIANTS`, each once.
    """

    base: str
    variants: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return '+'.join((self.base, *self.variants))

    @property
    def entry(self) -> Entry:
        return TABLE[self.base]

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the backbone."""
        return {key: value for variant in self.variants for key, value in VARIANTS[variant].items()}

    @property
    def work(self) -> Contender:
        """The same without what changes only how it is computed: it has the same multiply-adds."""
        kept = tuple(variant for variant in self.variants if variant in _DIFFERENT_WORK)
        return Contender(self.base, kept)

    def refuses(self, height: int, width: int) -> str | None:
        """Why it cannot run on images of this size; None if it can."""
        if self.entry.square and height != width:
            return 'takes square images only'
        return None

    def build(self) -> nn.Module:
        """The network on the CPU with random weights, called on images ``(B, 3, H, W)``; not compiled.

        Raises:
            UserError: the library that it comes from is missing.
        """
        if self.entry.library is not None:
            require_libraries(self.entry.library)
        return self.entry.build(**self.options)

    def prepare(self, model: nn.Module) -> nn.Module:
        """What is called: compiled, for any image size, if the variant says so."""
        return torch.compile(model, dynamic=True) if 'compile' in self.variants else model


def parse_contenders(names: Sequence[str]) -> list[Contender]:
    """Look up names such as ``pyramid-tiny+memory``.

    Raises:
        UserError: an unknown or repeated name or variant, or a variant that does not fit.
    """
    contenders = [_parse(name) for name in names]
    repeated = [
        contender.name
        for index, contender in enumerate(contenders)
        if contender in contenders[:index]
    ]
    if repeated:
        raise UserError(f'--contenders: {repeated[0]} is given twice')
    return contenders


def _parse(name: str) -> Contender:
    base, *variants = name.split('+')
    if base not in TABLE:
        near = difflib.get_close_matches(base, TABLE, n=1)
        hint = f', did you mean {near[0]}?' if near else '.'
        raise UserError(f'--contenders: unknown {base!r}{hint} Choose from {", ".join(TABLE)}')
    for index, variant in enumerate(variants):
        if variant not in VARIANTS:
            raise UserError(
                f'--contenders {name}: unknown variant {variant!r}; choose from {", ".join(VARIANTS)}'
            )
        if VARIANTS[variant] and not TABLE[base].ours:
            raise UserError(
                f'--contenders {name}: +{variant} is for weightformer-* and pyramid-* only'
            )
        if variant in variants[:index]:
            raise UserError(f'--contenders {name}: +{variant} is given twice')
    if 'torch' in variants and 'triton' in variants:
        raise UserError(f'--contenders {name}: +torch and +triton exclude each other')
    return Contender(base, tuple(variants))
