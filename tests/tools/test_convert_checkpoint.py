"""``tools/convert_checkpoint.py`` as a user runs it."""

from __future__ import annotations

import torch
from safetensors.torch import load_file


def test_backbone_of_a_trained_model(tools, segmentation, tmp_path):
    out = tmp_path / 'new' / 'backbone.safetensors'
    result = tools.run('convert_checkpoint', segmentation.checkpoint, out, '--backbone-only')
    assert result.ok().splitlines()[-1] == str(out)
    trained = torch.load(segmentation.checkpoint, weights_only=True)['state_dict']
    weights = load_file(out)
    expected = {name[9:] for name in trained if name.startswith('backbone.')}
    assert weights.keys() == expected
    assert all(torch.equal(weights[name], trained[f'backbone.{name}']) for name in weights)


def test_published_weights_evaluate_as_before(tools, segmentation, tmp_path):
    arguments = (segmentation.checkpoint, tmp_path / 'net.safetensors', '--publish')
    published = tools.run('convert_checkpoint', *arguments).ok().splitlines()[-1]
    metrics = []
    for checkpoint in (segmentation.checkpoint, published):
        settings = ('--work-dir', tmp_path, *segmentation.options())
        out = tools.run('test', segmentation.config, checkpoint, *settings).ok()
        metrics.append(out[out.rindex('mIoU: ') :].split()[1])
    assert metrics[0] == metrics[1]


def test_bad_input(tools, segmentation, tmp_path):
    def refused(*arguments: object) -> str:
        return tools.run('convert_checkpoint', *arguments).error_line()

    out = tmp_path / 'out.pth'
    assert 'checkpoint not found: ' in refused(tmp_path / 'none.pth', out)
    line = refused(segmentation.checkpoint, out, '--to', 'released')
    assert 'the released names are for a WeightFormer' in line
    out.write_text('precious')
    assert f'{out} is there already' in refused(segmentation.checkpoint, out)
    (tmp_path / 'file').write_text('')
    assert 'cannot use the file or folder' in refused(
        segmentation.checkpoint, tmp_path / 'file' / 'out.pth'
    )
    assert out.read_text() == 'precious'
