"""The prior of the classes: kept by what changes a model, refused where a method has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tip_adapter import FewShotClassifier
from tip_adapter.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def photos(paint: Callable[..., Any]) -> list[Any]:
    return [paint("red", number) for number in range(6)] + [paint("blue", number) for number in range(2)]


LABELS = ["red"] * 6 + ["blue"] * 2


def test_a_prior_by_counts_favours_the_class_with_more_photos(photos: list[Any]) -> None:
    balanced, by_count = (
        FewShotClassifier("toy", prior=prior).fit(photos, LABELS).estimator_ for prior in ("balanced", "counts")
    )
    red = by_count.classes_.tolist().index("red")
    lead = [each.intercept_[0, red] - each.intercept_[0, 1 - red] for each in (balanced, by_count)]
    assert lead[1] > lead[0] + 0.5


def test_the_prior_stays_when_photos_are_added_and_the_model_is_saved(
    photos: list[Any], paint: Callable[..., Any], tmp_path: Path
) -> None:
    model = FewShotClassifier("toy", prior="counts").fit(photos, LABELS)
    model.partial_fit([paint("blue", 9)], ["blue"]).save(tmp_path / "model")
    again = FewShotClassifier.load(tmp_path / "model").retune()
    assert [each.estimator_.prior for each in (model, again)] == ["counts", "counts"]


@pytest.mark.parametrize(
    ("method", "prior", "message"),
    [("tip-adapter", "counts", "tip-adapter takes no prior; leave out prior"), ("auto", "equal", "balanced or counts")],
)
def test_a_prior_that_is_none_or_has_no_place_is_refused(
    method: str, prior: str, message: str, photos: list[Any]
) -> None:
    with pytest.raises(UsageError, match=message):
        FewShotClassifier("toy", method, prior=prior).fit(photos, LABELS)
