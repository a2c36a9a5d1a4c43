"""Trained models for the tests of the command lines."""

from __future__ import annotations

import pytest

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION, Run, Tools, train


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


@pytest.fixture(scope='session')
def classification(tools, single_shapes) -> Run:
    return train(tools, CLASSIFICATION, single_shapes, 'classification')


@pytest.fixture(params=['detection', 'segmentation', 'classification'])
def task_run(request) -> Run:
    """All tasks."""
    return request.getfixturevalue(request.param)
