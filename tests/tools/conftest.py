"""Trained models for the tests of the command lines."""

from __future__ import annotations

from functools import partial

import pytest

from tests.helpers.commands import CLASSIFICATION, DETECTION, SEGMENTATION, Run, Tools, train_once


@pytest.fixture(scope='session')
def tools(tmp_path_factory):
    return Tools(tmp_path_factory.mktemp('tools'))


@pytest.fixture(scope='session')
def trained(tmp_path_factory, worker_id):
    """A function that trains a config once for all workers of a test run."""
    base = tmp_path_factory.getbasetemp()
    return partial(train_once, base if worker_id == 'master' else base.parent)


@pytest.fixture(scope='session')
def detection(tools, shapes, trained) -> Run:
    return trained(tools.run, DETECTION, shapes, 'detection')


@pytest.fixture(scope='session')
def segmentation(tools, shapes, trained) -> Run:
    return trained(tools.run, SEGMENTATION, shapes, 'segmentation')


@pytest.fixture(scope='session')
def classification(tools, single_shapes, trained) -> Run:
    return trained(tools.run, CLASSIFICATION, single_shapes, 'classification')


@pytest.fixture(params=['detection', 'segmentation', 'classification'])
def task_run(request) -> Run:
    """All tasks."""
    return request.getfixturevalue(request.param)
