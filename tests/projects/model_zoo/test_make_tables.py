"""The generated files say what the recipes are, and a change of either is noticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from projects.model_zoo import metafile, tables
from projects.model_zoo.make_tables import MEASURED_PEERS, _peers, make_tables
from projects.model_zoo.metafile import Cost
from projects.model_zoo.recipes import FAMILIES, find_recipes
from weightformer_mm.errors import UserError

ROOT = Path(__file__).parents[3]
COCO = 'configs/coco/mask-rcnn_pyramid-weightformer-tiny_fpn_1x_coco.py'
ADE20K = 'configs/ade20k/upernet_pyramid-weightformer-base_8xb2-160k_ade20k-512x512.py'
RECIPES = (
    COCO,
    ADE20K.replace('-base_', '-tiny_'),
    ADE20K,
    ADE20K.replace('512x512', '640x640'),
    'configs/cityscapes/upernet_pyramid-weightformer-tiny_8xb1-80k_cityscapes-1024x2048.py',
    'configs/camvid/segformer_pyramid-weightformer-micro_1xb8-100e_camvid-240x320.py',
    'configs/nuclei/mask-rcnn_pyramid-weightformer-micro_fpn_1xb4-24e_nuclei-256x256.py',
    'configs/imagenet/weightformer-tiny_8xb128_in1k.py',
    'configs/shapes/upernet_pyramid-weightformer-micro_shapes.py',
)
COST = Cost(12_345_678, 98_765_432_100)


def test_the_repository_is_up_to_date():
    make_tables(ROOT, check=True)


def test_weights_that_ship_are_named_with_results():
    paths = [ROOT / metafile.metafile_path(family) for family in FAMILIES]
    models = [model for path in paths for model in metafile.read(path)['Models']]
    named = {model['Weights']: model['Results'] for model in models}
    shipped = {path.relative_to(ROOT).as_posix() for path in ROOT.glob('configs/*/*.safetensors')}
    assert {name for name in named if name.startswith('configs/')} == shipped
    assert all(named[name] for name in shipped)


@pytest.fixture(scope='module')
def made(tmp_path_factory) -> Path:
    """A repository of a few recipes, its files generated with the same made-up cost for each."""
    root = tmp_path_factory.mktemp('repository')
    shutil.copytree(ROOT / 'configs/_base_', root / 'configs/_base_')
    (root / 'docs').mkdir()
    for name in (*RECIPES, 'docs/model_zoo.md'):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    peers: dict[str, dict[str, list[int]]] = {}
    for family in FAMILIES:
        recipes = list(find_recipes(root, family))
        costs = {recipe.name: COST for recipe in recipes}
        metafile.write(root / metafile.metafile_path(family), metafile.metafile(recipes, costs))
        if _peers(family):
            peers[family.folder] = {
                'Swin-T': [28_000_000, 250_000_000_000],
                'Swin-B': [98_000_000, 498_000_000_000],
            }
    metafile.write(root / MEASURED_PEERS, peers)
    make_tables(root)
    return root


@pytest.fixture
def tree(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / 'repository'))


def test_made_once_nothing_is_stale(made, capsys):
    make_tables(made, check=True)
    make_tables(made)
    assert capsys.readouterr().out == ''


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def files(tree: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in tree.rglob('*') if path.is_file()}


@pytest.mark.parametrize(
    ('name', 'old', 'new', 'stale'),
    [
        ('docs/model_zoo.md', '98.8 G', '98.7 G', 'docs/model_zoo.md'),
        ('docs/model_zoo.md', '42.7', '42.8', 'docs/model_zoo.md'),
        ('docs/model_zoo.md', '12.3 M', '12.4 M', 'docs/model_zoo.md'),
        ('docs/model_zoo.md', '28.0 M, 250.0 G', '28.1 M, 250.0 G', 'docs/model_zoo.md'),
        ('docs/peers_measured.yml', '- 250000000000', '- 251000000000', 'docs/model_zoo.md'),
        (
            'configs/coco/metafile.yml',
            'FLOPs: 98765432100',
            'FLOPs: 98965432100',
            'docs/model_zoo.md',
        ),
        ('configs/coco/metafile.yml', 'Epochs: 12', 'Epochs: 13', 'configs/coco/metafile.yml'),
        ('configs/coco/metafile.yml', 'x1280', 'x1333', 'configs/coco/metafile.yml'),
        (
            'configs/ade20k/metafile.yml',
            'Parameters: 12345678',
            'Parameters: 22345678',
            'docs/model',
        ),
        ('configs/_base_/schedules/coco_1x.py', 'max_epochs = 12', 'max_epochs = 9', 'docs/model'),
        ('configs/_base_/schedules/coco_1x.py', 'size=16', 'size=32', 'configs/coco/metafile.yml'),
        ('configs/_base_/models/released.py', 'former-t', 'former-x', 'imagenet/metafile.yml'),
        ('model-index.yml', 'configs/cityscapes', 'configs/city', 'model-index.yml'),
    ],
)
def test_a_change_is_noticed(tree, name, old, new, stale):
    edit(tree / name, old, new)
    before = files(tree)
    with pytest.raises(UserError) as error:
        make_tables(tree, check=True)
    assert stale in str(error.value)
    assert files(tree) == before


def test_a_new_recipe_is_noticed(tree):
    shutil.copy(tree / COCO, (tree / COCO).with_name('another.py'))
    with pytest.raises(UserError, match='differ in another;'):
        make_tables(tree, check=True)


@pytest.mark.parametrize('name', [COCO, 'model-index.yml', 'configs/ade20k/metafile.yml'])
def test_a_missing_file_is_noticed(tree, name):
    (tree / name).unlink()
    with pytest.raises(UserError, match=Path(name).stem):
        make_tables(tree, check=True)


def test_marks_that_lack_are_named(tree):
    edit(tree / 'docs/model_zoo.md', '<!-- table: coco-comparison -->', '')
    with pytest.raises(UserError, match=r'model_zoo\.md: .*coco-comparison'):
        make_tables(tree)


def test_results_written_by_hand_stay_and_are_shown(tree):
    path = tree / 'configs/coco/metafile.yml'
    contents = yaml.safe_load(path.read_text())
    (model,) = contents['Models']
    model['Results'] = [{'Dataset': 'COCO', 'Metrics': {'box AP': 12.5, 'mask AP': 10.25}}]
    model['Weights'] = 'https://example.org/mask-rcnn.pth'
    path.write_text(metafile.render(contents))
    make_tables(tree)
    assert yaml.safe_load(path.read_text()) == contents
    zoo = (tree / 'docs/model_zoo.md').read_text()
    assert '| 12.5 | 10.25 | this project |' in zoo
    assert '| 12.5 | 10.25 | https://example.org/mask-rcnn.pth |' in zoo


def test_one_recipe_is_counted_anew_and_the_others_stay(tree, monkeypatch):
    monkeypatch.setattr('projects.model_zoo.make_tables.cost_of', lambda config, shape: Cost(1, 2))
    make_tables(tree, measure=[Path(ADE20K).stem])
    contents = metafile.read(tree / 'configs/ade20k/metafile.yml')
    costs = metafile.costs_in(contents)
    assert costs.pop(Path(ADE20K).stem) == Cost(1, 2)
    assert len(costs) == 2 and set(costs.values()) == {COST}
    make_tables(tree, check=True)


def test_a_recipe_that_is_not_there_is_not_counted(tree):
    before = files(tree)
    with pytest.raises(UserError, match='no recipe is called mask-rcn$'):
        make_tables(tree, measure=['mask-rcn'])
    assert files(tree) == before


def test_each_size_stands_once_beside_its_peers(made):
    """The recipe of 640x640 crops is another protocol."""
    text = (made / 'docs/model_zoo.md').read_text()
    table = text.split('<!-- table: ade20k-comparison -->')[1].split('<!-- end -->')[0]
    assert ADE20K in table
    assert '640x640.py' not in table
    assert table.count('[PyramidWeightFormer-base]') == 1


def test_the_cheapest_comes_first_and_a_cost_that_is_not_known_last(made):
    text = (made / 'docs/model_zoo.md').read_text()
    table = text.split('<!-- table: coco-comparison -->')[1].split('<!-- end -->')[0]
    names = [row.split('|')[1].strip() for row in table.strip().splitlines()[2:]]
    assert names[0].startswith('[PyramidWeightFormer-tiny]')
    assert names[1] == 'Swin-T'  # 250 G, as counted here
    assert names[-1] == 'PVTv2-B2'
    assert names.index('VMamba-T') < names.index('VMamba-S') < names.index('VMamba-B')


def test_peers_are_complete():
    """Two results each, a source for each number, and a cost that is the same wherever it stands."""
    costs = {}
    for folder, peers in metafile.read(tables.PEERS).items():
        seen = [(peer['backbone'], peer['method'], peer['schedule']) for peer in peers]
        assert len(seen) == len(set(seen))
        for peer in peers:
            where = json.dumps(peer)
            assert len(peer['results']) == 2, where
            assert bool(peer['source']) == all(isinstance(n, float) for n in peer['results']), where
            assert ('flops' in peer) == ('parameters' in peer), where
            if 'flops' in peer:
                cost = (peer['parameters'], peer['flops'])
                assert costs.setdefault((folder, peer['backbone']), cost) == cost, where


@pytest.mark.parametrize(
    'path', sorted(ROOT.glob('configs/*/metafile.yml')), ids=lambda p: p.parent.name
)
def test_mim_reads_the_metafiles(path):
    """It joins lists with commas, and fails on a list of numbers."""
    for model in metafile.read(path)['Models']:
        lists = [value for value in model['Metadata'].values() if isinstance(value, list)]
        assert all(isinstance(entry, str) for entries in lists for entry in entries)
