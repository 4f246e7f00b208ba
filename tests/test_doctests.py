"""The examples in public docstrings run and print what they show."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    ("module", "least"),
    [
        ("tamis.ops.confidence", 4),
        ("tamis.ops.gradients", 1),
        ("tamis.ops.noise", 1),
        ("tamis.ops.spectral", 5),
        ("tamis.ops.votes", 1),
        ("tamis.adversarial.attacks", 1),
        ("tamis.adversarial.losses", 1),
        ("tamis.adversarial.objective", 1),
        ("tamis.analysis", 0),
        ("tamis.backdoor.activation_clustering", 1),
        ("tamis.backdoor.cleaning", 1),
        ("tamis.backdoor.extraction", 1),
        ("tamis.backdoor.poisoning", 1),
        ("tamis.backdoor.signatures", 1),
        ("tamis.backdoor.spectre", 1),
        ("tamis.compat.pyod", 1),
        ("tamis.estimators.mean", 1),
        ("tamis.estimators._explanation", 1),
        ("tamis.estimators.covariance", 1),
        ("tamis.estimators.outliers", 1),
        ("tamis.estimators.pca", 1),
        ("tamis.estimators.que", 1),
        ("tamis.location", 3),
        ("tamis.diagnostics", 1),
        ("tamis.que", 1),
        ("tamis.sever.driver", 1),
        ("tamis.sever.gradients", 1),
        ("tamis.sever.linear", 1),
        ("tamis.smoothing.smooth", 1),
        ("tamis.smoothing.classifiers", 0),
        ("tamis.smoothing.datasets", 0),
        ("tamis.smoothing.identity", 0),
        ("tamis.smoothing.logs", 0),
        ("tamis.reference", 0),
    ],
)
def test_examples(module: str, least: int) -> None:
    """``least`` guards against examples that are no longer found."""
    finder = doctest.DocTestFinder()
    examples = finder.find(importlib.import_module(module))
    assert sum(bool(example.examples) for example in examples) >= least
    result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0
