"""Converting checkpoints: bit for bit, whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import os
import signal

import pytest
import safetensors.torch
import torch

from tests.helpers import golden
from tests.helpers.commands import Fork
from weightformer_mm.apis.convert import OURS, RELEASED, Conversion, convert_checkpoint
from weightformer_mm.backbones import PyramidWeightFormer, WeightFormer
from weightformer_mm.checkpoints.pretrained import load_pretrained
from weightformer_mm.checkpoints.safe_load import load_checkpoint_file
from weightformer_mm.errors import UserError
from weightformer_mm.utils.writing import PARTIAL

HEAD = {'head.weight', 'head.bias'}
SMALL = dict(embed_dims=16, depth=3)


def awkward(shape: torch.Size | list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Random numbers with a negative zero, a denormal number and infinity."""
    bits = torch.tensor([-(2**31), 1, 0x7F800000], dtype=torch.int32)
    tensor = torch.randn(shape)
    tensor.view(-1)[:3] = bits.view(torch.float32)[: tensor.numel()]
    return tensor.to(dtype)


def raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten().contiguous().view(torch.uint8)


def same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(other) and all(
        value.dtype == other[name].dtype and torch.equal(raw(value), raw(other[name]))
        for name, value in one.items()
    )


def read(path) -> dict[str, torch.Tensor]:
    content = load_checkpoint_file(path)
    return content.get('state_dict', content.get('model', content))


@pytest.mark.parametrize(
    ('arch', 'suffix', 'between'),
    [
        ('tiny', 'pth', 'pth'),
        ('tiny', 'safetensors', 'safetensors'),
        ('small', 'pth', 'safetensors'),
        ('base', 'safetensors', 'pth'),
    ],
)
def test_round_trip_of_released_weights(arch, suffix, between, tmp_path):
    shapes = golden.released_shapes()[arch]['state_dict']
    released = {name: awkward(shape) for name, shape in shapes.items()}
    source = tmp_path / f'released.{suffix}'
    if suffix == 'pth':
        torch.save({'model': released, 'epoch': 3}, source)
    else:
        safetensors.torch.save_file(released, source)
    ours = convert_checkpoint(source, tmp_path / f'ours.{between}', Conversion())
    assert WeightFormer(arch=arch).state_dict().keys() == read(ours).keys() - HEAD
    back = convert_checkpoint(ours, tmp_path / f'back.{suffix}', Conversion(to=RELEASED))
    given, returned = read(source), read(back)
    assert same_bits(dict(sorted(given.items())), dict(sorted(returned.items())))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_data_types_stay(dtype, tmp_path):
    weights = {n: awkward(v.shape, dtype) for n, v in WeightFormer(SMALL).state_dict().items()}
    torch.save(weights, tmp_path / 'in.pth')
    first = convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'a.safetensors', Conversion())
    second = convert_checkpoint(first, tmp_path / 'b.pth', Conversion())
    assert same_bits(dict(sorted(weights.items())), dict(sorted(read(second).items())))


@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_layout_and_memory_of_the_source_do_not_matter(suffix, tmp_path):
    network = WeightFormer(SMALL).to(memory_format=torch.channels_last)
    weights = dict(network.state_dict())
    weights['init_norm.bias'] = torch.randn(1_000_000)[5:21]  # a view of a large memory
    torch.save(weights, tmp_path / 'in.pth')
    out = convert_checkpoint(tmp_path / 'in.pth', tmp_path / f'out.{suffix}', Conversion())
    assert same_bits(dict(sorted(weights.items())), dict(sorted(read(out).items())))
    assert out.stat().st_size < 1_000_000


def detector(network, others: dict[str, torch.Tensor], **more) -> tuple[dict, dict]:
    weights = {name: torch.randn_like(v) for name, v in network.state_dict().items()}
    inside = {f'backbone.{name}': value for name, value in weights.items()}
    return {'state_dict': {**inside, **others}, **more}, weights


def test_backbone_of_a_detector(tmp_path):
    arch = dict(embed_dims=(8, 16), depths=(3, 3))
    network = PyramidWeightFormer(arch, out_indices=(0, 1))
    saved, weights = detector(network, {'neck.weight': torch.ones(2)}, optimizer={'state': {}})
    torch.save(saved, tmp_path / 'in.pth')
    alone = Conversion(backbone_only=True)
    out = convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'out.pth', alone)
    assert load_checkpoint_file(out).keys() == {'state_dict'}
    assert same_bits(read(out), weights)
    load_pretrained(network, str(out))
    whole = convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'whole.pth', Conversion())
    assert same_bits(read(whole), saved['state_dict'])
    assert load_checkpoint_file(whole)['optimizer'] == {'state': {}}


@pytest.mark.parametrize('head', ['head.', 'head.fc.'])
def test_a_classifier_gets_the_released_names(head, tmp_path):
    others = {f'{head}weight': torch.ones(5, 16), f'{head}bias': torch.zeros(5)}
    saved, weights = detector(WeightFormer(SMALL), others)
    torch.save(saved, tmp_path / 'in.pth')
    out = convert_checkpoint(
        tmp_path / 'in.pth', tmp_path / 'out.safetensors', Conversion(to=RELEASED)
    )
    released = read(out)
    assert HEAD <= released.keys() and {'norm.weight', 'blocks.1.dwc.wfm.0.bias'} <= released.keys()
    assert len(released) == len(weights) + 2
    network = WeightFormer(SMALL)
    load_pretrained(network, str(out))
    assert same_bits(dict(network.state_dict()), weights)


def test_published_checkpoint(tmp_path):
    saved, _ = detector(
        WeightFormer(SMALL),
        {'neck.weight': torch.ones(2)},
        meta={'epoch': 3},
        optimizer={'state': {}},
        param_schedulers=[],
        message_hub={},
    )
    torch.save(saved, tmp_path / 'in.pth')
    out = convert_checkpoint(
        tmp_path / 'in.pth', tmp_path / 'net.pth', Conversion(OURS, publish=True)
    )
    assert out.name == f'net-{hashlib.sha256(out.read_bytes()).hexdigest()[:8]}.pth'
    assert load_checkpoint_file(out).keys() == {'state_dict', 'meta'}
    assert same_bits(read(out), saved['state_dict'])
    assert not (tmp_path / 'net.pth').exists()
    with pytest.raises(UserError, match=f'{out.name} is there already'):
        convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'net.pth', Conversion(publish=True))


@pytest.mark.parametrize(
    ('weights', 'conversion', 'message'),
    [
        (
            detector(WeightFormer(SMALL), {'neck.weight': torch.ones(2)})[0],
            Conversion(to=RELEASED),
            'no released names for neck; add --backbone-only',
        ),
        (
            PyramidWeightFormer(dict(embed_dims=(8,), depths=(3,)), out_indices=0).state_dict(),
            Conversion(to=RELEASED),
            'for a WeightFormer with one output norm',
        ),
        (
            WeightFormer(SMALL, out_indices=(1, 2)).state_dict(),
            Conversion(to=RELEASED),
            r'unknown names: norm1\.bias, norm1\.weight',
        ),
        ({'conv1.weight': torch.ones(3)}, Conversion(), 'no weights of a WeightFormer or Pyramid'),
    ],
)
def test_weights_that_cannot_be_converted(weights, conversion, message, tmp_path):
    torch.save(weights, tmp_path / 'in.pth')
    with pytest.raises(UserError, match=f'in.pth: .*{message}'):
        convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'out.pth', conversion)
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


def test_a_file_that_is_there_is_replaced_by_force_alone(tmp_path):
    torch.save(WeightFormer(SMALL).state_dict(), tmp_path / 'in.pth')
    (tmp_path / 'out.pth').write_text('precious')
    with pytest.raises(UserError, match=r'out\.pth is there already; --force'):
        convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'out.pth', Conversion())
    assert (tmp_path / 'out.pth').read_text() == 'precious'
    convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'out.pth', Conversion(), force=True)
    assert read(tmp_path / 'out.pth')
    for name, message in {'out.bin': 'ends in .pth or', 'folder.pth': 'is a folder'}.items():
        (tmp_path / 'folder.pth').mkdir(exist_ok=True)
        with pytest.raises(UserError, match=message):
            convert_checkpoint(tmp_path / 'in.pth', tmp_path / name, Conversion(), force=True)


@pytest.mark.parametrize('way', ['same', 'hard', 'symbolic', 'backwards', 'published'])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_the_source_is_never_replaced(way, suffix, tmp_path):
    source, out = tmp_path / 'in.pth', tmp_path / f'out.{suffix}'
    torch.save(WeightFormer(SMALL).state_dict(), source)
    conversion = Conversion(publish=way == 'published')
    if way == 'same':
        out = source
    elif way == 'hard':
        os.link(source, out)
    elif way == 'symbolic':
        out.symlink_to(source)
    elif way == 'backwards':
        out = source.rename(out)
        source.symlink_to(out)
    else:
        source = convert_checkpoint(source, out, conversion)
    before = source.read_bytes()
    with pytest.raises(UserError, match='this file is read; choose another'):
        convert_checkpoint(source, out, conversion, force=True)
    assert source.read_bytes() == before


@pytest.mark.parametrize('target', ['victim', 'none'])
def test_a_link_in_the_place_of_the_file_is_not_followed(target, tmp_path):
    torch.save(WeightFormer(SMALL).state_dict(), tmp_path / 'in.pth')
    victim, out = tmp_path / 'victim', tmp_path / 'out.pth'
    victim.write_text('precious')
    out.symlink_to(tmp_path / target)
    (tmp_path / '.out.partial.pth').symlink_to(victim)
    with pytest.raises(UserError, match='is there already'):
        convert_checkpoint(tmp_path / 'in.pth', out, Conversion())
    assert out.is_symlink()
    convert_checkpoint(tmp_path / 'in.pth', out, Conversion(), force=True)
    assert read(out) and not out.is_symlink() and victim.read_text() == 'precious'


AT_ONCE = """
import sys
from weightformer_mm.apis.convert import Conversion, convert_checkpoint
from weightformer_mm.errors import UserError
print('ready', flush=True)
for number in sys.stdin:
    for force in (False, True):
        name = f'{force}-{number.strip()}.pth'
        try:
            convert_checkpoint(f'{sys.argv[1]}.pth', name, Conversion(), force=force)
            print('wrote', name, flush=True)
        except UserError as error:
            print(error, flush=True)
"""


def test_two_conversions_to_one_file_at_once(tmp_path):
    times = 6
    weights = {}
    for name in ('one', 'other'):
        weights[name] = dict(WeightFormer(SMALL).state_dict())
        torch.save(weights[name], tmp_path / f'{name}.pth')
    (tmp_path / 'script.py').write_text(AT_ONCE)
    ends = [os.pipe() for _ in weights]
    runs = [
        Fork([str(tmp_path / 'script.py'), name], tmp_path, {}, stdin=read)
        for name, (read, _) in zip(weights, ends)
    ]
    for run in runs:
        run.until(lambda: 'ready' in run.said()[0])  # noqa: B023
    for number in range(times):
        for _, write in ends:
            os.write(write, f'{number}\n'.encode())
    for end in itertools.chain(*ends):
        os.close(end)
    said = [run.wait().ok().splitlines() for run in runs]
    for number in range(times):
        for force, wins in ((False, 1), (True, 2)):
            name = f'{force}-{number}.pth'
            wrote = [lines.count(f'wrote {name}') for lines in said]
            assert sum(wrote) == wins
            found = read(tmp_path / name)
            whole = [same_bits(found, weights[source]) for source in weights]
            assert whole.count(True) == 1 and (force or whole == [bool(n) for n in wrote])
    assert len(list(tmp_path.iterdir())) == 3 + 2 * times


KILLED = """
import os, signal
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
from weightformer_mm.apis.convert import Conversion, convert_checkpoint
convert_checkpoint('in.pth', 'out.pth', Conversion(), force=True)
"""


def test_an_interrupted_write_leaves_the_old_file_whole(tmp_path):
    torch.save(WeightFormer(SMALL).state_dict(), tmp_path / 'in.pth')
    (tmp_path / 'out.pth').write_text('precious')
    (tmp_path / 'script.py').write_text(KILLED)
    run = Fork([str(tmp_path / 'script.py')], tmp_path, {}).wait()
    assert run.code == -signal.SIGKILL
    assert (tmp_path / 'out.pth').read_text() == 'precious'
    convert_checkpoint(tmp_path / 'in.pth', tmp_path / 'out.pth', Conversion(), force=True)
    visible = (path.name for path in tmp_path.iterdir() if not path.name.startswith(PARTIAL))
    assert sorted(visible) == ['in.pth', 'out.pth', 'script.py']
