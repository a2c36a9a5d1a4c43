"""ONNX files of `export`, in the place of the models that they were made of."""

from __future__ import annotations

import json
import math
import os
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from ..errors import LibraryMissing, UserError
from ..utils.translate import blamed

_SUFFIX = '.onnx'


def is_exported(checkpoint: str | os.PathLike | None) -> bool:
    """Whether an ONNX file is given where a checkpoint might be."""
    return checkpoint is not None and os.fspath(checkpoint).endswith(_SUFFIX)


def need_onnx(*libraries: str) -> None:
    """Raise LibraryMissing unless they are installed."""
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise LibraryMissing(
            f'{" and ".join(missing)}, which ONNX files need, is not installed; '
            "pip install 'weightformer_mm[export]'"
        )


def onnx_session(path: str | os.PathLike) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU, without its warnings."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        os.fspath(path), options, providers=['CPUExecutionProvider']
    )


@MODELS.register_module()
class ExportedModel(nn.Module):
    """Predicts like the model that a file was made of, one image at a time, on the CPU.

    It has no parameters; `to` and copies give the same object.

    Args:
        cfg: config of the model that the file was made of.
        path: the file.

    Attributes:
        cfg: config of the model, whose test pipeline loads images.
        dataset_meta: names and colours of its classes.

    Raises:
        UserError: the file cannot be read, or is no file of `export`.
    """

    def __init__(self, cfg: Config | ConfigDict, path: str | os.PathLike):
        super().__init__()
        need_onnx('onnxruntime')
        with blamed(f'{path} cannot be read'):
            self.session = onnx_session(path)
        facts = self.session.get_modelmeta().custom_metadata_map
        self.names = [output.name for output in self.session.get_outputs()]
        if 'version' not in facts or self.names[0] not in ('labels', 'scores', 'boxes'):
            raise UserError(
                f'{path}: no segmentor, classifier or detector of weightformer-mm export'
            )
        if self.names[0] == 'labels':
            self.with_decode_head = True  # by which one knows mmseg's segmentors
        self.cfg = cfg
        self.dataset_meta = {
            key: [
                tuple(value) if isinstance(value, list) else value
                for value in json.loads(facts[key])
            ]
            for key in ('classes', 'palette')
            if key in facts
        }
        if 'classes' in self.dataset_meta:
            self.head = _Head(len(self.dataset_meta['classes']))
        self.preprocessor = None
        if self.session.get_inputs()[0].type != 'tensor(uint8)':
            with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
                self.preprocessor = MODELS.build(cfg.model.data_preprocessor)

    def to(self, *args: Any, **kwargs: Any) -> ExportedModel:
        return self

    def __deepcopy__(self, memo: Any) -> ExportedModel:
        return self

    def test_step(self, data: dict[str, Any]) -> list[Any]:
        """What ``model.test_step(data)`` returns."""
        return [self._predict(*pair) for pair in zip(data['inputs'], data['data_samples'])]

    def _predict(self, image: Tensor, sample: Any) -> Any:
        batch = image.permute(1, 2, 0)[None]
        if self.preprocessor is not None:
            data = {'inputs': [image], 'data_samples': [sample]}
            batch = self.preprocessor(data, False)['inputs']
        outputs = self.session.run(None, {'image': batch.numpy()})
        found = {name: torch.from_numpy(x)[0] for name, x in zip(self.names, outputs)}
        if 'boxes' in found:
            from mmdet.models.utils import samplelist_boxtype2tensor

            samplelist_boxtype2tensor([sample])  # as mmdet's preprocessor does
            sample.pred_instances = self._instances(sample, **found)
        elif 'labels' in found:
            height, width = image.shape[1:]  # without padding
            labels = found['labels'][None, None, :height, :width].double()
            labels = F.interpolate(labels, sample.ori_shape[:2], mode='nearest')[0]
            sample.pred_sem_seg = PixelData(data=labels.long())
        else:
            sample.set_pred_score(found['scores']).set_pred_label(found['scores'].argmax())
        return sample

    def _instances(
        self,
        sample: Any,
        boxes: Tensor,
        scores: Tensor,
        labels: Tensor,
        masks: Tensor | None = None,
    ) -> InstanceData:
        there = scores > 0
        boxes = boxes[there] / boxes.new_tensor(sample.scale_factor).repeat(2)
        found = InstanceData(bboxes=boxes, scores=scores[there], labels=labels[there])
        if masks is not None:
            found.masks = self._masks(sample, boxes, masks[there])
        return found

    def _masks(self, sample: Any, boxes: Tensor, masks: Tensor) -> Tensor:
        """Masks ``(n, H, W)`` in the image's file, as mmdet makes them of those in the boxes or the image."""
        size, test_cfg = sample.ori_shape[:2], self.cfg.model.test_cfg
        whole = [torch.zeros(0, *size, dtype=torch.bool)]
        if 'rcnn' in test_cfg:
            from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

            for mask, box in zip(masks, boxes):
                mask, _ = _do_paste_mask(mask[None, None], box[None], *size, skip_empty=False)
                whole.append(mask >= test_cfg.rcnn.mask_thr_binary)
            return torch.cat(whole)
        factors = sample.scale_factor[::-1]
        sides = [math.ceil(side / factor) for side, factor in zip(masks.shape[1:], factors)]
        for logits in masks.logit(1e-6):  # logits are enlarged
            logits = F.interpolate(logits[None, None], sides, mode='bilinear')[0]
            whole.append(logits[:, : size[0], : size[1]].sigmoid() > test_cfg.mask_thr_binary)
        return torch.cat(whole)


class _Head(nn.Module):
    """By which `check_classes` knows what a file predicts."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes
