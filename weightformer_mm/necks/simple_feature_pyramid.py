from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from ..arguments import checked, integer
from ..backbones.base import at_own_sizes

# LayerNorm over the channels of (B, C, H, W), for heads: norm_cfg=dict(type='LN2d'). mmpretrain and mmdet's
# ViTDet use the same name, each in its own registry; mmcv's 'LN' is for channels-last maps.
MODELS.register_module('LN2d', module=LayerNorm2d)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Four scales from the single scale of an isotropic backbone (ViTDet, arXiv 2203.16527, section 3).

    Scales 4, 2, 1 and 1/2 of the input: two stride-2 transposed convolutions, one, identity, max pooling;
    then 1x1 and 3x3 convolutions with LayerNorm for each. A backbone of stride 16 gives strides 4 to 32.

    Args:
        in_channels: channels of the backbone's map.
        out_channels: channels of each output.
        num_outs: number of outputs, at least 4; each one after the fourth is the previous one at half the
            size (stride-2 subsampling, as in mmdet's FPN), for Mask R-CNN's fifth level.
        init_cfg: mmengine's initialisation; without it, PyTorch's own applies.

    Raises:
        ValueError: for a wrong argument, such as fewer than 4 outputs, or if the input is not one map.
    """

    @checked(in_channels=integer(4))
    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 4,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        half, quarter = in_channels // 2, in_channels // 4
        scalings = [
            nn.Sequential(
                nn.ConvTranspose2d(in_channels, half, kernel_size=2, stride=2),
                LayerNorm2d(half),
                nn.GELU(),
                nn.ConvTranspose2d(half, quarter, kernel_size=2, stride=2),
            ),
            nn.ConvTranspose2d(in_channels, half, kernel_size=2, stride=2),
            nn.Identity(),
            nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True),
        ]
        self.out_channels = (out_channels,) * num_outs
        self.scales = nn.ModuleList(
            nn.Sequential(
                scaling,
                nn.Conv2d(channels, out_channels, kernel_size=1, bias=False),
                LayerNorm2d(out_channels),
                nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
                LayerNorm2d(out_channels),
            )
            for scaling, channels in zip(scalings, (quarter, half, in_channels, in_channels))
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One ``(B, in_channels, H, W)`` → ``(B, out_channels, s*H, s*W)`` for s of 4, 2, 1, 1/2, ..."""
        if len(inputs) != 1:
            raise ValueError(
                f"SimpleFeaturePyramid takes one map, got {len(inputs)}; set the backbone's out_indices to -1"
            )
        return self._scaled(inputs[0])

    @at_own_sizes
    def _scaled(self, x: Tensor) -> tuple[Tensor, ...]:
        # contiguous: LayerNorm2d returns a channels-last view, which mmcv's RoIAlign misreads
        outputs = [scale(x).contiguous() for scale in self.scales]
        while len(outputs) < len(self.out_channels):
            outputs.append(F.max_pool2d(outputs[-1], kernel_size=1, stride=2))
        return tuple(outputs)

    def output_sizes(self, size: Sequence[int]) -> list[tuple[int, int]]:
        """Height and width of each output for a map of a height and width."""
        height, width = size
        sizes = [(scale * height, scale * width) for scale in (4, 2, 1)]
        while len(sizes) < len(self.out_channels):
            sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))  # exporters round up wrongly
        return sizes
