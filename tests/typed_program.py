"""A program as users write it: `test_typing.py` has type checkers read it."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, assert_type

import numpy as np
from PIL import Image

from tip_adapter import (
    ClassEmbeddings,
    FewShotClassifier,
    Prediction,
    SupportSet,
    TipAdapterClassifier,
    TipAdapterCV,
    TipAdapterError,
    choose_alpha_beta,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def over_vectors(text_vectors: NDArray[np.float32], X: NDArray[np.float32], y: list[str]) -> float:
    names = ClassEmbeddings(["cat", "dog"], text_vectors)
    ClassEmbeddings(("cat", "dog"), [[1.0, 0.0], [0.0, 1.0]])
    ClassEmbeddings(np.array([1, 2]), text_vectors)
    choice = choose_alpha_beta(X, y, names, logit_scale=100.0)
    clf = TipAdapterClassifier(choice.alpha, choice.beta, names, logit_scale=100.0).fit(X, y)
    chosen = TipAdapterCV(names).fit(X, y)
    assert_type(chosen.alpha_, float)
    return clf.score(X, y)


def over_photos(paths: list[Path], labels: list[str], folder: Path) -> list[str]:
    model = FewShotClassifier().fit(paths, labels)
    content = paths[0].read_bytes()
    assert_type(model.predict(paths[0]), str)
    assert_type(model.predict("photo.jpg"), str)
    assert_type(model.predict(content), str)
    assert_type(model.predict(BytesIO(content)), str)
    assert_type(model.predict(Image.open(paths[0])), str)
    assert_type(model.predict(content, min_score="auto"), "str | None")
    with paths[0].open("rb") as file:
        assert_type(model.predict(file, min_score=0.5), "str | None")
    model.predict(paths).tolist()
    model.predict([content, BytesIO(content), paths[0]], min_score=0.5).tolist()
    model.predict_proba(paths[0]).argmax()
    support: SupportSet = model.support_
    rows = model.predict_folder(folder, min_score="auto")
    assert_type(rows, list[Prediction])
    assert_type(rows[0]["image"], str)
    assert_type(rows[0]["label"], "str | None")
    assert_type(rows[0]["top"][0]["score"], float)
    return [*(row["image"] for row in rows if row["label"] is None), *support.labels.tolist()]


def named(model: FewShotClassifier, photo: bytes) -> str:
    try:
        return model.predict(photo)
    except TipAdapterError as error:
        return error.code
