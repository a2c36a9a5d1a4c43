"""Label a huge image in bounded memory: neck, head, upsampling and argmax run strip by strip.

The labels are those of the whole image, within rounding. The backbone computes its own maps in strips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from ..errors import UserError
from .lazy_maps import (
    Map,
    convolved,
    cropped,
    each,
    group_normalised,
    joined,
    kept,
    resized,
    stored,
)

_MODES = ('nearest', 'bilinear')


def check_strips(model: nn.Module) -> None:
    """Raise a UserError unless `predict_in_strips` can run the model."""
    _expect(model, ('mmseg.EncoderDecoder',))
    _refuse(model.test_cfg.get('mode', 'whole') != 'whole', 'slide mode (it computes tiles)')
    _logits(model, [Map((1, 1), lambda *rows: torch.empty(0))] * 9)  # maps that nobody reads


@torch.no_grad()
def predict_in_strips(model: nn.Module, data: dict[str, Any]) -> Any:
    """What ``model.test_step(data)`` returns for one image, without ``seg_logits``.

    Args:
        model: a segmentor of mmseg in evaluation mode that passes `check_strips`.
        data: a batch of one image.

    Returns:
        A list of one ``SegDataSample``. Its labels ``(1, H, W)`` are uint8, or int64 beyond 256 classes.
    """
    data = model.data_preprocessor(data, False)
    (sample,) = data['data_samples']
    logits = lazy_logits(model, data.pop('inputs'), sample.metainfo)
    sample.pred_sem_seg = PixelData(data=_labels(logits, model.decode_head))
    return [sample]


def lazy_logits(model: nn.Module, image: Tensor, meta: dict[str, Any]) -> Map:
    """The logits of an image ``(1, 3, H, W)`` at the size of its file, ``(1, out_channels, H, W)``."""
    _refuse(meta.get('flip'), 'flipped images')
    logits = kept(_logits(model, [stored(x) for x in model.backbone(image)]))
    # as mmseg's predict_by_feat and postprocess_result
    padded = tuple(meta.get('pad_shape', meta['img_shape'])[:2])
    left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', [0] * 4))
    logits = resized(logits, padded, 'bilinear', model.align_corners)
    logits = cropped(logits, top, bottom, left, right)
    return resized(logits, tuple(meta['ori_shape'][:2]), 'bilinear', model.align_corners)


def _labels(logits: Map, head: nn.Module) -> Tensor:
    """The class of each pixel, as mmseg's ``postprocess_result`` finds it: ``(1, H, W)``."""
    dtype = torch.uint8 if head.out_channels <= 256 else torch.int64
    labels = head.conv_seg.weight.new_empty((1, *logits.size), dtype=dtype)
    for start, stop in logits.strips():
        x = logits.rows(start, stop)
        found = x.argmax(1) if head.out_channels > 1 else x.sigmoid()[:, 0] > head.threshold
        labels[:, start:stop] = found
    return labels


def _logits(model: nn.Module, maps: Sequence[Map]) -> Map:
    """The logits of the decode head from the maps of the backbone."""
    if model.with_neck:
        _expect(model.neck, ('mmseg.FPN',))
        maps = _fpn(model.neck, maps)
    head = model.decode_head
    _expect(head, _HEADS)
    if head.input_transform is None:
        maps = [maps[head.in_index]]
    else:
        maps = [maps[index] for index in head.in_index]
    if head.input_transform == 'resize_concat':
        maps = [joined(*_to_first(maps, 'bilinear', head.align_corners))]
    return convolved(_HEADS[_name(head)](head, maps), head.conv_seg)


def _fpn(neck: nn.Module, maps: Sequence[Map]) -> list[Map]:
    """The maps of mmseg's FPN."""
    _refuse(neck.num_outs > len(neck.lateral_convs), 'extra levels in an FPN')
    _refuse('scale_factor' in neck.upsample_cfg, 'a scale_factor in an FPN')
    options = neck.upsample_cfg.get('mode', 'nearest'), neck.upsample_cfg.get('align_corners')
    _refuse(options[0] not in _MODES, f'{options[0]} interpolation in an FPN')
    maps = [_run(x, [conv]) for x, conv in zip(maps[neck.start_level :], neck.lateral_convs)]
    return [_run(x, [conv]) for x, conv in zip(_top_down(maps, *options), neck.fpn_convs)]


def _fcn_head(head: nn.Module, maps: Sequence[Map]) -> Map:
    (x,) = maps
    features = _run(x, head.convs) if head.num_convs else x
    return _run(joined(x, features), [head.conv_cat]) if head.concat_input else features


def _fpn_head(head: nn.Module, maps: Sequence[Map]) -> Map:
    maps = [_run(x, layers) for x, layers in zip(maps, head.scale_heads)]
    return each(lambda *parts: sum(parts), *_to_first(maps, 'bilinear', head.align_corners))


def _uper_head(head: nn.Module, maps: Sequence[Map]) -> Map:
    options: Any = 'bilinear', head.align_corners
    x, pools = maps[-1], []
    for pool, conv in head.psp_modules:
        pools.append(resized(_run(_pooled(x, pool), [conv]), x.size, *options))
    top = kept(_run(joined(x, *pools), [head.bottleneck]))
    maps = [*(_run(x, [conv]) for x, conv in zip(maps, head.lateral_convs)), top]
    *maps, top = _top_down(maps, *options)
    maps = [*(_run(x, [conv]) for x, conv in zip(maps, head.fpn_convs)), top]
    return _run(joined(*_to_first(maps, *options)), [head.fpn_bottleneck])


def _segformer_head(head: nn.Module, maps: Sequence[Map]) -> Map:
    _refuse(
        head.interpolate_mode != 'bilinear',
        f'{head.interpolate_mode} interpolation in a SegformerHead',
    )
    maps = [_run(x, [conv]) for x, conv in zip(maps, head.convs)]
    maps = _to_first(maps, 'bilinear', head.align_corners)
    return _run(joined(*maps), [head.fusion_conv])


_HEADS: dict[str, Callable[[Any, Sequence[Map]], Map]] = {
    'mmseg.FCNHead': _fcn_head,
    'mmseg.FPNHead': _fpn_head,
    'mmseg.UPerHead': _uper_head,
    'mmseg.SegformerHead': _segformer_head,
}


def _run(x: Map, layers: Iterable[nn.Module]) -> Map:
    """Apply mmcv's ``ConvModule`` and mmseg's ``Upsample``, one after the other."""
    for layer in layers:
        if _name(layer) == 'mmseg.Upsample':
            height, width = (int(side * layer.scale_factor) for side in x.size)
            x = resized(x, (height, width), layer.mode, layer.align_corners)
        else:
            x = _conv_module(x, layer)
    return x


def _conv_module(x: Map, module: Any) -> Map:
    _expect(module, ('mmcv.ConvModule',))
    conv, norm = module.conv, module.norm
    reach = [step * (side - 1) for step, side in zip(conv.dilation, conv.kernel_size)]
    keeps_size = [2 * padding for padding in conv.padding] == reach and conv.stride == (1, 1)
    plain = type(conv) is nn.Conv2d and conv.padding_mode == 'zeros' and keeps_size
    plain = plain and not module.with_explicit_padding and module.order == ('conv', 'norm', 'act')
    _refuse(not plain, f'{conv}')
    x = convolved(x, conv)
    if type(norm) is nn.GroupNorm and norm.affine:
        x = group_normalised(x, norm)
    elif norm is not None:
        _refuse(getattr(norm, 'running_mean', None) is None, f'{norm}')
        x = each(norm, x)
    return each(module.activate, x) if module.with_activation else x


def _pooled(x: Map, pool: nn.Module) -> Map:
    """Apply an average over the whole map, which is computed when rows are first read."""
    small = cache(lambda: pool(x.rows(0, x.size[0])))
    sides = pool.output_size
    height, width = sides if isinstance(sides, tuple) else (sides, sides)
    return Map((height, width), lambda start, stop: small()[:, :, start:stop])


def _top_down(maps: Sequence[Map], mode: str, align_corners: bool | None) -> list[Map]:
    """Add to each map the next smaller one, enlarged."""
    maps = list(maps)
    for index in range(len(maps) - 1, 0, -1):
        upper = resized(maps[index], maps[index - 1].size, mode, align_corners)
        maps[index - 1] = each(torch.add, maps[index - 1], upper)
    return maps


def _to_first(maps: Sequence[Map], mode: str, align_corners: bool | None) -> list[Map]:
    """All maps at the size of the first."""
    return [resized(x, maps[0].size, mode, align_corners) for x in maps]


def _name(module: nn.Module) -> str:
    """The library and the class of a module."""
    kind = type(module)
    return f'{kind.__module__.partition(".")[0]}.{kind.__qualname__}'


def _expect(module: nn.Module, names: Iterable[str]) -> None:
    _refuse(_name(module) not in names, _name(module))


def _refuse(condition: Any, what: str) -> None:
    if condition:
        raise UserError(f'no strips for {what}: run it without strips')
