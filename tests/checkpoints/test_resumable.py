from __future__ import annotations

import pytest

from weightformer_mm.checkpoints.resumable import check_resumable
from weightformer_mm.errors import UserError


def test_resuming_needs_the_state_of_a_run():
    run = {'meta': {'epoch': 1, 'iter': 2}, 'message_hub': {}, 'optimizer': {}}
    check_resumable(run, 'a.pth')
    for key in run:
        with pytest.raises(UserError, match=f'{key} missing.*load_from=a.pth'):
            check_resumable({k: v for k, v in run.items() if k != key}, 'a.pth')
    with pytest.raises(UserError, match='iter missing'):
        check_resumable({**run, 'meta': {'epoch': 1}}, 'a.pth')


@pytest.mark.parametrize('key', ['epoch', 'iter', 'seed'])
@pytest.mark.parametrize('value', [-1, 1.5, 'x', True, 2**40])
def test_progress_is_a_number(key, value):
    run = {'meta': {'epoch': 1, 'iter': 2, key: value}, 'message_hub': {}, 'optimizer': {}}
    with pytest.raises(UserError, match=f'meta.{key} is'):
        check_resumable(run, 'a.pth')
