"""Every line of the METHODS table against scikit-learn's checks and our own laws."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from tip_adapter.methods import METHODS, method_class
from tip_adapter.testing import check_method


@parametrize_with_checks([method_class(name)() for name in METHODS])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", METHODS)
def test_our_laws(name):
    made = method_class(name)
    takes_names = "class_embeddings" in made().get_params(deep=False)
    check_method(lambda names: made(class_embeddings=names) if takes_names else made())


WRONG_SETTINGS = [
    ("alpha", np.nan),
    ("alpha", -1.0),
    ("alpha", "1"),
    ("alpha", True),
    ("beta", 0.0),
    ("beta", np.inf),
    ("beta", None),
    ("logit_scale", 0.0),
    ("logit_scale", -np.inf),
    ("learning_rate", np.nan),
    ("ratio", -0.1),
    ("reduction", 0),
    ("C", 0.0),
    ("epochs", 1.5),
    ("batch_size", 0),
    ("seed", -1),
    ("seed", None),
    ("class_embeddings", np.eye(2)),
]


def wrong_settings():
    """Every method with each of these values that its constructor takes."""
    made = {method: method_class(method)().get_params(deep=False) for method in METHODS}
    return [(method, name, value) for method in METHODS for name, value in WRONG_SETTINGS if name in made[method]]


@pytest.mark.parametrize(("method", "name", "value"), wrong_settings(), ids=str)
def test_settings_that_make_no_sense_are_refused_when_fitting_and_when_answering(method, name, value):
    X, y = np.eye(4), [0, 0, 1, 1]
    with pytest.raises(ValueError, match=name):
        method_class(method)(**{name: value}).fit(X, y)
    with pytest.raises(ValueError, match=name):
        method_class(method)().fit(X, y).set_params(**{name: value}).predict(X)
