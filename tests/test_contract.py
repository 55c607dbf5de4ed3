"""Every line of the METHODS table against scikit-learn's checks and our own laws."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from tip_adapter.methods import METHODS, method_class
from tip_adapter.testing import check_method


@parametrize_with_checks([method_class(name)() for name in METHODS])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", METHODS)
def test_our_laws(name):
    check_method(lambda names: method_class(name)(class_embeddings=names))
