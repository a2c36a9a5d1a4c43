"""What is measured on trained weights, with networks at their first weights and a few generated pictures."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from projects.real_pictures import explain as subject
from projects.real_pictures.networks import PUBLISHED, STATIC, STRATEGIES
from projects.real_pictures.plan import METRICS, RATES, Run
from tests.helpers.real_layouts import make_camvid, make_nuclei
from tests.helpers.reduced import reduce_backbone, reduce_counts
from weightformer_mm.apis import init_model
from weightformer_mm.config.options import use_data_root


def prepared(tmp_path, data, network=PUBLISHED):
    """The config of a run with a narrow network and few pictures, and weights whose predictions matter."""
    make = {'camvid': make_camvid, 'nuclei': make_nuclei}[data]
    if not (tmp_path / data).exists():
        make(tmp_path / data, train=2, val=2, size=(48, 64))
    cfg = Run(data, network).load_config()
    use_data_root(cfg, tmp_path / data)
    reduce_backbone(cfg.model)
    reduce_counts(cfg.model)
    folder = tmp_path / 'runs' / Run(data, network).name
    folder.mkdir(parents=True, exist_ok=True)
    cfg.dump(folder / 'config.py')
    torch.manual_seed(0)
    model = init_model(cfg)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if '.predictor.' in name:
                parameter.normal_(std=0.5)
    checkpoint = folder / f'epoch_{cfg.max_epochs}.pth'
    torch.save({'state_dict': model.state_dict()}, checkpoint)
    return cfg, checkpoint


@pytest.mark.parametrize('data', METRICS)
def test_frozen_at_one_image_it_is_the_same_function_of_that_image(tmp_path, data):
    cfg, checkpoint = prepared(tmp_path, data)
    images = tmp_path / data / 'train'
    first, *others = sorted(images.iterdir())
    for other in others:  # with one image alone, the mean is what that image predicts
        shutil.copyfile(first, other)
    weights, variation = subject.freeze(cfg, checkpoint)
    assert variation == pytest.approx({'linear': 0.0, 'convolution': 0.0}, abs=1e-6)
    dynamic = init_model(cfg, checkpoint)
    frozen_cfg = cfg.copy()
    frozen_cfg.model.backbone.update(STRATEGIES[STATIC])
    frozen = init_model(frozen_cfg)
    frozen.load_state_dict(weights, strict=True)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        batch = next(iter(Runner.build_dataloader(subject._training_images(cfg))))
    inputs = dynamic.data_preprocessor(batch)['inputs']
    with torch.no_grad():
        maps, expected = frozen.backbone(inputs), dynamic.backbone(inputs)
    for each, right in zip(maps, expected):
        # float32, a dozen blocks
        torch.testing.assert_close(each, right, rtol=1e-4, atol=1e-4)


def test_parameters_of_different_images_vary(tmp_path):
    _, variation = subject.freeze(*prepared(tmp_path, 'camvid'))
    assert min(variation.values()) > 1e-4


@pytest.mark.parametrize('data', METRICS)
def test_the_records_of_compared_runs_are_explained_once(tmp_path, monkeypatch, data):
    configs = {name: prepared(tmp_path, data, name)[0] for name in (PUBLISHED, STATIC)}
    monkeypatch.setattr(Run, 'load_config', lambda run: configs[run.network].copy())
    monkeypatch.setitem(subject.SHAPES, data, [(48, 64)])
    monkeypatch.setattr(subject, 'SIDES', (48, 49))
    for network in (PUBLISHED, STATIC):
        for rate in RATES:
            file = tmp_path / 'results' / f'{Run(data, network, rate).name}.json'
            file.parent.mkdir(parents=True, exist_ok=True)
            value = 1.0 if rate == 1 else 0.0
            file.write_text(json.dumps({'data': data, 'metrics': {METRICS[data]: value}}))
    subject.explain(tmp_path / 'runs', tmp_path / 'results', 'abc')
    for network in (PUBLISHED, STATIC):
        record = json.loads((tmp_path / 'results' / f'{Run(data, network).name}.json').read_text())
        found = record['explained']
        sizes = {'camvid': ['24x32', '36x48', '48x64'], 'nuclei': ['up to 48']}[data]
        assert list(found['by_size']) == sizes and found['commit'] == 'abc'
        assert all(0 <= score <= 1 for score in found['by_size'].values())
        assert 0 < found['receptive_field']['beyond 50%'] < 1
        assert ('frozen' in found) == (network == PUBLISHED)
    monkeypatch.setattr(subject, 'explain_run', None)
    subject.explain(tmp_path / 'runs', tmp_path / 'results', 'later')


def test_images_are_grouped_by_their_shorter_side():
    images = [
        {'id': 1, 'height': 256, 'width': 999},
        {'id': 2, 'height': 400, 'width': 257},
        {'id': 3, 'height': 361, 'width': 900},
    ]
    coco = {
        'images': images,
        'annotations': [{'image_id': i} for i in (1, 2, 2, 3)],
        'categories': [],
    }
    found = subject.with_sides(coco, 256, 360)
    assert [image['id'] for image in found['images']] == [2]
    assert found['annotations'] == [{'image_id': 2}] * 2 and found['categories'] == []
