"""Sheets of validation images, with networks at their first weights."""

from __future__ import annotations

import cv2
import pytest
import torch

from projects.real_pictures.plan import METRICS, Run
from projects.real_pictures.sheets import write_sheet
from tests.helpers.real_layouts import make_camvid, make_nuclei
from tests.helpers.reduced import reduce_backbone, reduce_counts
from weightformer_mm.apis import init_model
from weightformer_mm.config.options import use_data_root


@pytest.mark.parametrize('data', METRICS)
def test_a_row_for_each_image(tmp_path, data):
    make = {'camvid': make_camvid, 'nuclei': make_nuclei}[data]
    make(tmp_path / data, train=1, val=3, size=(48, 64))
    networks = {}
    for name in ('published', 'static'):
        cfg = Run(data, name).load_config()
        use_data_root(cfg, tmp_path / data)
        reduce_backbone(cfg.model)
        reduce_counts(cfg.model)
        checkpoint = tmp_path / f'{name}.pth'
        torch.save({'state_dict': init_model(cfg).state_dict()}, checkpoint)
        networks[name] = cfg, checkpoint
    write_sheet(networks, tmp_path / 'sheet.png', number=2)
    sheet = cv2.imread(str(tmp_path / 'sheet.png'))
    # two rows of four pictures of 240x320 pixels, each with a caption
    height, width = sheet.shape[0] // 2, 322
    assert width * 4 < sheet.shape[1] < width * 5 and 240 < height < 280
    middles = sheet[[height // 3, height // 3 + height]][
        :, [width // 2 + i * width for i in range(4)]
    ]
    assert (middles < 255).any(axis=-1).all()
    assert (sheet[:height, :320] != sheet[:height, width : width + 320]).any()  # truth is drawn
