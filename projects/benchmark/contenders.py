"""The networks that can be measured, by name: a backbone, and ``+variant`` for each change to it.

None has stochastic depth or pretrained weights, and each gives all the scales it has, so that all do the same
kind of work. The library of a network is imported when the network is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

from weightformer_mm.analysis.complexity import measure
from weightformer_mm.errors import UserError
from weightformer_mm.utils.translate import require_libraries

from .baselines import PlainPyramid, PublishedWeightFormer
from .graphs import in_graph
from .steps import DTYPES, Case, Step, backbone_step
from .subjects import Subject

PYRAMID_STRIDES = (4, 8, 16, 32)
# PyTorch's convention: the backward pass takes twice the multiply-adds of the forward pass
TRAINING_FACTOR = 3


@dataclass(frozen=True)
class Entry:
    """A line of the table.

    Attributes:
        build: makes the network on the CPU; takes the options of the variants.
        strides: of its outputs, in pixels.
        ours: whether the variants of this package's backbones apply.
        square: whether it takes square images only.
    """

    build: Callable[..., nn.Module]
    strides: tuple[int, ...] = PYRAMID_STRIDES
    ours: bool = False
    square: bool = False


def _swin_tiny() -> nn.Module:
    require_libraries('mmdet')
    from mmengine.registry import MODELS

    with MODELS.switch_scope_and_registry('mmdet') as registry:
        # but for this, the defaults of the class are Swin-T's
        return registry.build(dict(type='SwinTransformer', drop_path_rate=0.0))


def _lazily(module: str, name: str, *args: Any, **options: Any) -> nn.Module:
    """Call what a module has under a name."""
    return getattr(import_module(module), name)(*args, **options)


def _table() -> dict[str, Entry]:
    table = {}
    ours = partial(_lazily, 'weightformer_mm.backbones')
    for arch in ('tiny', 'small', 'base'):
        table[f'weightformer-{arch}'] = Entry(partial(ours, 'WeightFormer', arch), (16,), ours=True)
    for arch in ('micro', 'nano', 'tiny', 'small', 'base'):
        table[f'pyramid-{arch}'] = Entry(partial(ours, 'PyramidWeightFormer', arch), ours=True)
    for arch in ('tiny', 'small'):
        published = partial(PublishedWeightFormer, arch)
        table[f'published-{arch}'] = Entry(published, (16,), square=True)
    for arch in ('micro', 'tiny', 'small'):
        table[f'plain-pyramid-{arch}'] = Entry(partial(PlainPyramid, arch))
    table['swin-tiny'] = Entry(_swin_tiny)
    features = partial(_lazily, 'timm', 'create_model', pretrained=False, features_only=True)
    swin = 'swin_tiny_patch4_window7_224'
    # as mmdet's, but for the norms of the outputs
    table[swin] = Entry(partial(features, swin, feature_cls='getter', strict_img_size=False))
    for name in ('convnext_tiny', 'pvt_v2_b2', 'pvt_v2_b2_li'):
        table[name] = Entry(partial(features, name))
    deit = 'deit_small_patch16_224'
    any_size = dict(out_indices=(-1,), dynamic_img_size=True, dynamic_img_pad=True)
    table[deit] = Entry(partial(features, deit, **any_size), (16,))
    return table


TABLE = _table()
# arguments of this package's backbones; those without arguments are for every contender
VARIANTS: dict[str, dict[str, Any]] = {
    'memory': dict(memory_efficient=True),
    'cp': dict(with_cp=True),
    'attention': dict(token_mixer='attention'),
    'torch': dict(backend='torch'),
    'triton': dict(backend='triton'),
    'compile': {},
    'compile_static': {},
    'graph': {},
    'pure': {},
}
_EXCLUSIVE = (('torch', 'triton'), ('compile', 'compile_static'))
# these change what is computed, the others only how
_DIFFERENT_WORK = ('attention',)


@dataclass(frozen=True)
class Contender(Subject):
    """A backbone to measure.

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
        """The contender with the same multiply-adds, in a form that can be counted on the CPU."""
        kept = tuple(variant for variant in self.variants if variant in _DIFFERENT_WORK)
        return Contender(self.base, kept)

    def spec(self) -> dict[str, Any]:
        return {'backbone': self.name}

    def build(self) -> nn.Module:
        model = self.entry.build(**self.options)
        for variant, dynamic in (('compile', True), ('compile_static', False)):
            if variant in self.variants:
                model.compile(dynamic=dynamic)
        return model

    def step(self, model: nn.Module, case: Case, device: torch.device) -> Step:
        is_pure = 'pure' in self.variants
        if is_pure and case.dtype == 'float32':
            raise UserError(f'{self.name}: +pure is for bfloat16 and float16; see --dtype')
        if is_pure:
            model.to(DTYPES[case.dtype])
        step = backbone_step(model, case, device, is_pure)
        return in_graph(step, device) if 'graph' in self.variants else step

    def multiply_adds(self, case: Case) -> int:
        factor = TRAINING_FACTOR if case.mode == 'train' else 1
        return _forward_multiply_adds(self.work, case.size) * case.batch * factor

    def refuses(self, height: int, width: int) -> str | None:
        square_only = self.entry.square and height != width
        return 'takes square images only' if square_only else None


@cache
def _forward_multiply_adds(work: Contender, size: tuple[int, int]) -> int:
    """Of one image."""
    return measure(work.build(), size).total.multiply_adds


def parse_contenders(names: Sequence[str]) -> list[Contender]:
    """Look up names such as ``pyramid-tiny+memory``.

    Raises:
        UserError: an unknown or repeated name or variant, or a variant that does not fit.
    """
    contenders = [_parse(name) for name in names]
    for index, contender in enumerate(contenders):
        if contender in contenders[:index]:
            raise UserError(f'--contenders: {contender.name} is given twice')
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
    for one, other in _EXCLUSIVE:
        if one in variants and other in variants:
            raise UserError(f'--contenders {name}: +{one} and +{other} exclude each other')
    return Contender(base, tuple(variants))
