"""Every line of the METHODS table against our own laws; those that need vectors only against scikit-learn's checks, too."""

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from tip_adapter.encoders.toy import ToyEncoder
from tip_adapter.methods import METHODS, method_class
from tip_adapter.testing import check_method

OVER_VECTORS = [name for name in METHODS if not method_class(name).capabilities.encoder_parts]

#: What makes a method learn in a moment; as its constructor has it, it is checked among the slow tests.
QUICKER = {"linear-probe": {"C": 1.0}, "clip-adapter": {"epochs": 40}}


class NarrowTower:
    """The toy's prompt tower for vectors of another width, by a fixed projection."""

    description, width = "the toy encoder's text tower, narrowed", 49

    def __init__(self, to):
        self.to = to

    def prompts(self, names, n_context):
        read = ToyEncoder().prompt_tower().prompts(names, n_context)
        narrow = torch.tensor(np.random.default_rng(5).standard_normal((self.width, self.to)))
        return lambda context: read(context) @ narrow.to(context)


#: What an encoder would offer for vectors of so many numbers.
OFFERS = {"prompt_tower": NarrowTower}


def make(name, width=4, **settings):
    made = method_class(name)
    taken = made().get_params(deep=False)
    needed = {need: OFFERS[need](width) for need in made.capabilities.encoder_parts}
    return made(**needed, **{name: value for name, value in settings.items() if name in taken})


@parametrize_with_checks([method_class(name)(**QUICKER.get(name, {})) for name in OVER_VECTORS])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([method_class(name)() for name in QUICKER])
def test_scikit_learns_checks_of_a_method_that_takes_its_time(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", METHODS)
def test_our_laws(name):
    check_method(lambda names: make(name, width=12, class_embeddings=names))


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
    ("n_context", 0),
    ("epochs", 1.5),
    ("batch_size", 0),
    ("seed", -1),
    ("seed", None),
    ("class_embeddings", np.eye(2)),
    ("class_sums", "mean"),
    ("class_sums", None),
]


def wrong_settings():
    """Every method with each of these values that its constructor takes."""
    made = {method: method_class(method)().get_params(deep=False) for method in METHODS}
    return [(method, name, value) for method in METHODS for name, value in WRONG_SETTINGS if name in made[method]]


@pytest.mark.parametrize(("method", "name", "value"), wrong_settings(), ids=str)
def test_settings_that_make_no_sense_are_refused_when_fitting_and_when_answering(method, name, value):
    X, y = np.eye(4), [0, 0, 1, 1]
    with pytest.raises(ValueError, match=name):
        make(method, **{name: value}).fit(X, y)
    with pytest.raises(ValueError, match=name):
        make(method).fit(X, y).set_params(**{name: value}).predict(X)
