"""Every recipe trains a step, evaluates and predicts, on small images; a new one joins by being there.

Losses, augmentations, optimizer and evaluator are those of the file; the model has fewer and narrower blocks,
and narrower heads. Recipes that differ only in the size of the backbone are then the same and run once.
"""

from __future__ import annotations

import gc
import json
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from projects.miniatures import LAYOUTS, make_miniature
from tests.helpers.real_layouts import make_camvid, make_nuclei
from tests.helpers.reduced import FACTORS, reduce_sizes, reduced, shallow
from weightformer_mm.apis import Inferencer
from weightformer_mm.apis.browse import browse
from weightformer_mm.apis.test import evaluate
from weightformer_mm.config.read import as_list, innermost_dataset
from weightformer_mm.engine.hooks.training import PlainCheckpointHook
from weightformer_mm.engine.runner.runner import build_runner

CONFIGS = Path(__file__).parent.parent / 'configs'
LARGEST = 256
DONE: set[str] = set()  # what ran without a fault in this process
FILES = sorted(path for folder in FACTORS for path in CONFIGS.glob(f'{folder}/*.py'))
every_recipe = pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True, scope='module')
def libraries():
    """Imported, and spared by the garbage collector, which each data set of mmengine calls."""
    for library in ('mmdet', 'mmseg'):
        for part in ('models', 'datasets', 'evaluation'):
            import_module(f'{library}.{part}')
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """A function that gives the root of a small set in a folder's layout."""
    root = tmp_path_factory.mktemp('miniatures')

    def make(layout: str) -> Path:
        numbers = dict(train=4, val=3, size=(96, 128))
        if layout in LAYOUTS:
            make_miniature(layout, root / layout, **numbers, progress=False)
        elif not (root / layout).exists():
            {'camvid': make_camvid, 'nuclei': make_nuclei}[layout](root / layout, **numbers)
        return root / layout

    return make


class FirstValues(Hook):
    """Keep what backbone and neck begin with; see that the images are small."""

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        assert max(max(image.shape) for image in data_batch['inputs']) <= LARGEST
        self.values = {name: p.detach().clone() for name, p in learned(runner.model).items()}


def learned(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of backbone and neck."""
    parts = ('backbone.', 'neck.')
    return {name: p for name, p in model.named_parameters() if name.startswith(parts)}


def train_a_step(cfg: Config) -> Path:
    """Train one step, validate, and return the checkpoint."""
    scheduler = Config.fromfile(cfg.filename).param_scheduler
    runner = build_runner(cfg)
    first = FirstValues()
    runner.register_hook(first)
    runner.register_hook(
        PlainCheckpointHook()
    )  # as tools/train.py does: torch < 2.4 reads no others
    runner.train()
    assert runner.iter == 1
    values = learned(runner.model)
    assert not [name for name, old in first.values.items() if torch.equal(values[name], old)]
    assert all(torch.isfinite(value).all() for value in values.values())
    runner.build_param_scheduler(scheduler)
    checkpoint = Path(Path(cfg.work_dir, 'last_checkpoint').read_text())
    del runner, first, values
    gc.collect()  # a runner and its hooks hold each other
    return checkpoint


def logged(work_dir: Path) -> dict:
    lines = next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return {name: value for line in lines for name, value in json.loads(line).items()}


def metric_names(cfg: Config) -> set[str]:
    evaluator = as_list(cfg.test_evaluator)[0]
    if evaluator.type == 'IoUMetric':
        return {'mIoU'}
    if evaluator.type == 'CocoPanopticMetric':
        return {'coco_panoptic/PQ', 'coco_panoptic/PQ_th', 'coco_panoptic/PQ_st'}
    return {f'coco/{metric}_mAP' for metric in as_list(evaluator.metric)}


def is_panoptic(cfg: Config) -> bool:
    return as_list(cfg.test_evaluator)[0].type == 'CocoPanopticMetric'


def test_there_are_recipes_for_every_layout():
    assert {path.parent.name for path in FILES} == set(FACTORS)


def what_runs(cfg: Config, folder: Path) -> str:
    """All that a run in ``folder`` reads of a recipe, with the schedule of its file."""
    names = {*signature(Runner).parameters, 'tta_model', 'tta_pipeline'}
    values = {name: value for name, value in cfg.to_dict().items() if name in names}
    file = Config.fromfile(cfg.filename)
    schedule = [file.train_cfg, file.param_scheduler]
    return repr([values, schedule]).replace(str(folder), '')


@every_recipe
def test_trains_a_step_evaluates_and_predicts(path, data, tmp_path):
    cfg = reduced(path, data(path.parent.name), tmp_path)
    # several processes shard one model: tests/tools/test_processes.py
    cfg.runner_type, cfg.strategy = 'Runner', None
    running = what_runs(cfg, tmp_path)
    if running in DONE:
        return
    checkpoint = train_a_step(cfg)
    values = logged(tmp_path)
    assert values['loss'] > 0
    assert metric_names(cfg) <= set(values)

    cfg.model.backbone.pop('init_cfg', None)
    cfg.dump(tmp_path / 'recipe.py')
    out, show = tmp_path / 'out', tmp_path / 'show'
    metrics = evaluate(  # with TTA: the validation has just done without
        str(tmp_path / 'recipe.py'),
        str(checkpoint),
        work_dir=str(tmp_path / 'test'),
        out=str(out),
        show_dir=str(show),
        tta=cfg.tta_model is not None,
    )
    assert metric_names(cfg) <= set(metrics)
    written = {str(file.relative_to(out)) for file in out.rglob('*') if file.is_file()}
    shown = {file.relative_to(show) for file in show.rglob('*') if file.is_file()}
    names = {file.stem for file in shown}
    assert len(shown) == 3 if is_panoptic(cfg) else len(shown) == 1
    if is_panoptic(cfg):
        segments = {f'panoptic.panoptic/{name}.png' for name in names}
        assert written == {'metrics.json', 'panoptic.panoptic.json', *segments}
        browse(str(tmp_path / 'recipe.py'), str(tmp_path / 'sheet.png'), number=2)
        seen = Inferencer(str(tmp_path / 'recipe.py'), str(checkpoint), 'cpu')(
            Path(cfg.data_root, 'val2017'), tmp_path / 'seen'
        )
        assert len(seen) == 3
    elif cfg.default_scope == 'mmdet':
        kinds = as_list(cfg.test_evaluator.metric)
        listed = json.loads(Path(cfg.test_evaluator.ann_file).read_text())['images']
        ids = {image['id'] for image in listed if Path(image['file_name']).stem in names}
        assert written == {'metrics.json', *(f'detections.{kind}.json' for kind in kinds)}
        for kind in kinds:
            found = json.loads((out / f'detections.{kind}.json').read_text())
            assert {entry['image_id'] for entry in found} == ids
    else:
        labels = Path('labels', shown.pop().with_suffix('.png'))
        assert written == {'metrics.json', str(labels)}
    DONE.add(running)


@every_recipe
def test_heads_fit_the_data_and_the_backbone(path):
    cfg = Config.fromfile(path)
    scope, dataset = cfg.default_scope, innermost_dataset(cfg.train_dataloader)
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'):
        known = DATASETS.get(f'{scope}.{dataset.type}').METAINFO
        classes = {**known, **dataset.get('metainfo', {})}['classes']
        few = dict(init_cfg=None, arch=shallow(cfg.model.backbone))
        backbone = MODELS.build({**cfg.model.backbone, **few})
        things = known['thing_classes'] if is_panoptic(cfg) else classes
        declared = set(find(cfg.model, 'num_classes'))
        assert declared <= {len(things)}
        of_stuff = set(find(cfg.model, 'num_stuff_classes'))
        assert declared or of_stuff
        if of_stuff:
            assert of_stuff == {len(classes) - len(things)}
            assert set(find(cfg.model, 'num_things_classes')) == {len(things)}
        channels = list(backbone.out_channels)
        if 'neck' in cfg.model:
            neck_in = cfg.model.neck.in_channels
            assert list(neck_in) == channels if isinstance(neck_in, list) else [neck_in] == channels
            neck = MODELS.build(cfg.model.neck)
            channels = getattr(neck, 'out_channels', cfg.model.neck.out_channels)
    for name in ('decode_head', 'auxiliary_head', 'rpn_head', 'bbox_head', 'panoptic_head'):
        head = cfg.model.get(name)
        if head is None or 'in_channels' not in head:
            continue
        if isinstance(channels, int) or (
            'in_index' not in head and name not in ('decode_head', 'panoptic_head')
        ):
            assert set(as_list(head.in_channels)) == set(as_list(channels))
        else:
            index = head.get('in_index', list(range(len(channels))))
            assert as_list(head.in_channels) == [channels[i] for i in as_list(index)]


def test_a_transform_of_unknown_size_is_refused():
    pipeline = [dict(type='RandomChoice', transforms=[[dict(type='RandomShift', pixels=32)]])]
    cfg = Config(dict(train_pipeline=pipeline, model=dict(data_preprocessor=dict())))
    with pytest.raises(ValueError, match='RandomShift'):
        reduce_sizes(cfg, 0.5)


def find(node, key):
    """All values of a key in a config."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from [value] if name == key else find(value, key)
    elif isinstance(node, (list, tuple)):
        for item in node:
            yield from find(item, key)
