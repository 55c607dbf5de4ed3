"""One photo learned at once is nearly what a fit to all photos makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from tip_adapter.encoders import load_encoder
from tip_adapter.serve.learning import Learned, Learner, Tuned
from tip_adapter.vectors import SupportSet, unit_rows

WIDTH = load_encoder("toy").identity.width


def support(n: int, n_classes: int, seed: int = 0) -> SupportSet:
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(1).normal(size=(n_classes, WIDTH))
    labels = np.arange(n) % n_classes
    vectors = unit_rows((centers[labels] + rng.normal(size=(n, WIDTH))).astype(np.float32))
    return SupportSet(vectors, [f"class {label}" for label in labels], [f"{seed} {row}" for row in range(n)])


@pytest.fixture(scope="module")
def learner() -> Learner:
    return Learner(load_encoder("toy"))


def fitted(learner: Learner, photos: SupportSet, tuned: Tuned | None = None) -> Learned:
    names = {str(label): str(label) for label in np.unique(photos.labels)}
    data = learner.training_data(names, frozenset(), photos)
    return learner.fit(data) if tuned is None else learner.refit(tuned, data)


@pytest.mark.parametrize("n_classes", [2, 5, 20])
def test_a_surprising_photo_counts_at_once_nearly_as_in_a_fit_to_all(learner: Learner, n_classes: int) -> None:
    photos, (vector,) = support(200, n_classes), support(1, n_classes, 2).vectors
    before = fitted(learner, photos)
    learned = before.with_photo(vector, "class 1")  # it looks like class 0
    one = SupportSet(vector[None], ["class 1"], ["new"])
    exact = fitted(learner, photos.with_more(one), before.tuned).head
    at_first, at_once, wanted = (head.probabilities(vector[None])[0] for head in (before.head, learned.head, exact))
    assert np.abs(wanted - at_first).max() > 0.3
    assert np.abs(at_once - wanted).max() < 0.2 * np.abs(wanted - at_first).max()
    assert learned.step.counts[1] == before.step.counts[1] + 1
    again = learned.without_photo(vector, "class 1")
    assert np.abs(again.head.probabilities(vector[None])[0] - at_first).max() < 1e-3


def test_an_explanation_still_sums_to_the_logit(learner: Learner) -> None:
    photos, more = support(60, 3), support(1, 3, 2)
    learned = fitted(learner, photos).with_photo(more.vectors[0], str(more.labels[0]))
    for answer in learned.head.explained_answers(more.vectors, 3, 0.0):
        for entry in answer["explanation"]:
            total = entry["text"] + entry["others"] + sum(image["part"] for image in entry["images"])
            assert total == pytest.approx(entry["logit"], rel=1e-5)


def test_what_was_chosen_is_stored_and_restored(learner: Learner) -> None:
    learned = fitted(learner, support(60, 3))
    assert Tuned.from_record(learned.tuned.to_record()) == learned.tuned


def test_a_class_without_a_name_is_where_the_others_are_on_average(learner: Learner) -> None:
    photos = support(0, 1)
    names = {"none": "none", "red": "red", "blue": "blue"}
    head = learner.fit(learner.training_data(names, frozenset({"none"}), photos)).head
    logits = head.estimator.logits(support(5, 2, 4).vectors)
    at = dict(zip(head.classes.tolist(), logits.T, strict=True))
    assert np.corrcoef(at["none"], at["red"] + at["blue"])[0, 1] == pytest.approx(1)
