"""Trained models for the tests of the command lines."""

from __future__ import annotations

import pytest

from tests.tools.commands import DETECTION, SEGMENTATION, Run, Tools, train


@pytest.fixture(scope='session')
def tools(tmp_path_factory):
    tools = Tools(tmp_path_factory.mktemp('tools'))
    yield tools
    tools.close()


@pytest.fixture(scope='session')
def detection(tools, shapes) -> Run:
    return train(tools, DETECTION, shapes, 'detection')


@pytest.fixture(scope='session')
def segmentation(tools, shapes) -> Run:
    return train(tools, SEGMENTATION, shapes, 'segmentation')


@pytest.fixture(params=['detection', 'segmentation'])
def task_run(request) -> Run:
    """Both tasks."""
    return request.getfixturevalue(request.param)
