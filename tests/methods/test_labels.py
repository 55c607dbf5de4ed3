"""Labels that NumPy would change are refused before it does."""

import numpy as np
import pandas
import pytest

from tip_adapter import ClassEmbeddings, FewShotClassifier, LinearProbeClassifier, TipAdapterClassifier
from tip_adapter.errors import LabelError
from tip_adapter.vectors import SupportSet

X = np.eye(3)
NAN = float("nan")
KINDS = "several kinds"
MISFITS = {
    "text and a number": (["a", 1, "b"], KINDS),
    "a number and text": ([1, "1", 2], KINDS),
    "text and NaN": (["a", NAN, "b"], "missing"),
    "text and None": (["a", None, "b"], "missing"),
    "text and NA": (["a", pandas.NA, "b"], "missing"),
    "a column with NA": (pandas.Series(["a", None, "b"], dtype="string"), "missing"),
    "numbers and NaN": ([0, NAN, 1], "NaN"),
    "numbers and None": ([0, None, 1], "missing"),
    "text and a truth value": (["a", True, "True"], KINDS),
    "a truth value and a number": ([True, 1, 0], KINDS),
    "a number and a truth value of NumPy": ([0, 1, np.True_], KINDS),
    "a tuple": (("a", 1, "b"), KINDS),
    "objects": (np.array(["a", 1, "b"], dtype=object), KINDS),
    "objects with a truth value": (np.array([True, 1, 0], dtype=object), KINDS),
    "text and bytes": (["a", b"a", "b"], "neither text nor a number"),
    "NUL at the end": (["a", "a\0", "b"], "NUL"),
    "NUL at the end of an object": (np.array(["a", "a\0", "b"], dtype=object), "NUL"),
    "only NUL": (["\0", "a", "b"], "NUL"),
    "a number that a float does not hold": ([2**53 + 1, 2**53, 1.0], "too large"),
}
every_misfit = pytest.mark.parametrize("case", MISFITS)


@every_misfit
def test_fault_80_labels_that_numpy_would_change_are_refused_when_fitting(case):
    labels, reason = MISFITS[case]
    for made in (TipAdapterClassifier(), LinearProbeClassifier()):
        with pytest.raises(LabelError, match=reason):
            made.fit(X, labels)
    fitted = TipAdapterClassifier().fit(X, ["a", "b", "c"])
    for made in (TipAdapterClassifier(), fitted):
        with pytest.raises(LabelError, match=reason):
            made.partial_fit(X, labels)
        with pytest.raises(LabelError, match=reason):
            made.partial_fit(X, labels, classes=["a", "b", "c"])
    assert len(fitted.ids_) == 3


@every_misfit
def test_fault_80_labels_that_numpy_would_change_are_refused_as_permitted_classes(case):
    labels, reason = MISFITS[case]
    for made in (TipAdapterClassifier(), TipAdapterClassifier().fit(X, ["a", "b", "c"])):
        with pytest.raises(LabelError, match=reason):
            made.partial_fit(X, ["a", "b", "b"], classes=labels)


@every_misfit
def test_fault_80_labels_that_numpy_would_change_are_refused_by_class_embeddings(case):
    labels, reason = MISFITS[case]
    with pytest.raises(LabelError, match=reason):
        ClassEmbeddings(labels, X)


@every_misfit
def test_fault_80_labels_that_numpy_would_change_are_refused_by_a_support_set(case):
    labels, reason = MISFITS[case]
    with pytest.raises(LabelError, match=reason):
        SupportSet(X, labels, np.array(["x", "y", "z"]))


@every_misfit
@pytest.mark.parametrize("classes", [["a", "b", "1"], [0, 1, 2]], ids=["text", "numbers"])
def test_fault_80_labels_that_numpy_would_change_are_refused_when_scoring(case, classes):
    labels, reason = MISFITS[case]
    with pytest.raises(LabelError, match=reason):
        TipAdapterClassifier().fit(X, classes).score(X, labels)


@pytest.mark.parametrize(("classes", "labels"), [(["0", "1", "2"], [0, 1, 2]), ([0, 1, 2], [False, True, True])])
def test_fault_80_scores_of_labels_of_another_kind_than_the_classes_are_refused(classes, labels):
    with pytest.raises(LabelError, match="another kind than the classes"):
        TipAdapterClassifier().fit(X, classes).score(X, labels)


@pytest.mark.parametrize(
    "labels",
    [["a", "b", "c"], [3, 1, 2], [1, 2.0, 3], [False, True, True], [[1], [2], [3]], [np.int8(1), 2, np.float32(3)]],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_fault_80_labels_of_one_kind_are_taken(labels):
    clf = TipAdapterClassifier().fit(X, labels)
    assert clf.predict(X).tolist() == np.ravel(labels).tolist()
    assert clf.score(X, labels, sample_weight=[1, 2, 3]) == 1


def test_fault_80_labels_of_a_support_set_are_text():
    with pytest.raises(LabelError, match=r"label 1 of a support set is not text; pass str\(label\)"):
        SupportSet(X, np.array([1, 2, 3]), np.array(["x", "y", "z"]))


@pytest.mark.parametrize("labels", [[1, 2], list(np.array([1, 2])), np.array([1, 2]), [True, False]], ids=repr)
def test_fault_80_labels_of_a_few_shot_classifier_that_are_numbers_are_refused_with_what_to_pass(labels):
    dark, light = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(LabelError, match=r"is not text.*pass str\(label\)"):
        FewShotClassifier("toy").fit([dark, light], labels)


def test_fault_80_labels_of_a_few_shot_classifier_may_be_text_of_numpy():
    dark, light = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert FewShotClassifier("toy").fit([dark, light], np.array(["a", "b"])).classes_.tolist() == ["a", "b"]
