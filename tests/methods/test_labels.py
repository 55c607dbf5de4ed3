"""Labels that NumPy would change are refused before it does."""

from enum import Enum, StrEnum

import numpy as np
import pandas
import pytest

from tip_adapter import ClassEmbeddings, FewShotClassifier, LinearProbeClassifier, TipAdapterClassifier
from tip_adapter.errors import LabelError, VectorError
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
    "a number that a float does not hold": ([2**53 + 1, 2**53, 1.0], "do not stay exact"),
    "numbers of two kinds that only a float holds": (
        [np.uint64(2**63 + 1), np.int64(5), np.uint64(2**63)],
        "stay exact",
    ),
    "empty text": (["a", "", "b"], "missing"),
    "blanks": (np.array(["a", " \u00a0", "b"]), "missing"),
    "blank objects": (np.array(["a", " ", "b"], dtype=object), "missing"),
    "masked text": (np.ma.array(["a", "a", "b"], mask=[False, True, False]), "masked"),
    "masked numbers": (np.ma.array([1, 1, 2], mask=[False, True, False]), "masked"),
    "a masked value": (["a", np.ma.masked, "b"], "missing"),
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


class Pet(str, Enum):  # noqa: UP042 # what StrEnum replaces prints itself as Pet.CAT
    CAT, COW, DOG = "cat", "cow", "dog"


class Fruit(StrEnum):
    FIG, KIWI, LIME = "fig", "kiwi", "lime"


class Breed(str):
    def __str__(self):
        return "a breed of cat or dog"


TEXTS = {
    "members of an Enum": list(Pet),
    "members of a StrEnum": list(Fruit),
    "text with its own __str__": [Breed("ara"), Breed("b"), Breed("c")],
    "an array of members": np.array(list(Pet), dtype=object),
    "a column of members": pandas.Series(list(Pet)),
    "a tuple": tuple(Pet),
    "members and text": [Pet.CAT, "cow", np.str_("dog")],
}


@pytest.mark.parametrize("case", TEXTS)
def test_fault_80_labels_of_a_sub_class_of_text_are_their_text(case):
    labels = TEXTS[case]
    plain = [str.__str__(label) for label in labels]
    clf = TipAdapterClassifier().fit(X, labels)
    assert clf.classes_.tolist() == clf.predict(X).tolist() == plain
    assert all(type(label) is str for label in clf.classes_.tolist())
    assert clf.score(X, labels) == 1
    assert TipAdapterClassifier().partial_fit(X, labels, classes=labels).classes_.tolist() == plain
    assert ClassEmbeddings(labels, X).labels.tolist() == plain
    assert SupportSet(X, labels, labels).labels.tolist() == plain
    assert TipAdapterClassifier(class_embeddings=ClassEmbeddings(labels, X)).fit(X, labels).predict(X).tolist() == plain
    assert clf.fit(X, labels, ids=list(labels)).ids_.tolist() == plain
    assert clf.remove_class(labels[0]).classes_.tolist() == plain[1:]


def test_fault_80_labels_of_a_sub_class_of_text_are_text_for_a_few_shot_classifier():
    images = [np.full((8, 8, 3), 100 * k, np.uint8) for k in range(3)]
    assert FewShotClassifier("toy").fit(images, list(Pet)).classes_.tolist() == ["cat", "cow", "dog"]
    assert FewShotClassifier("toy").fit(images, TEXTS["text with its own __str__"]).classes_[0] == "ara"


def test_fault_80_later_labels_that_only_a_float_could_hold_are_refused():
    clf = TipAdapterClassifier().fit(X, np.array([-1, 0, 5]))
    with pytest.raises(LabelError, match="do not stay exact"):
        clf.partial_fit(X, np.array([2**63 + 1, 2**63, 1], dtype=np.uint64))
    assert clf.classes_.tolist() == [-1, 0, 5]
    assert clf.partial_fit(X, np.array([7, 8, 9], dtype=np.uint64)).classes_.tolist() == [-1, 0, 5, 7, 8, 9]


def test_masked_arrays_without_a_mask_are_taken():
    assert TipAdapterClassifier().fit(X, np.ma.array(["a", "b", "c"])).classes_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("label", ["", " ", None, float("nan"), pandas.NA, pandas.NaT, "nan", "<NA>", "NaT", "None"])
def test_fault_80_missing_labels_of_a_few_shot_classifier_are_refused_without_advice_to_make_them_text(label):
    images = [np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)]
    with pytest.raises(LabelError, match="missing") as refusal:
        FewShotClassifier("toy").fit(images, ["cat", label])
    assert "pass str(label)" not in str(refusal.value)


@pytest.mark.parametrize("masked", [np.ma.array(X, mask=X > 0), np.ma.masked_less(X, 0.5)])
def test_fault_80_masked_vectors_are_refused(masked):
    fitted = TipAdapterClassifier().fit(X, ["a", "b", "c"])
    for use in (lambda: TipAdapterClassifier().fit(masked, ["a", "b", "c"]), lambda: fitted.predict(masked)):
        with pytest.raises(VectorError, match="the vectors hold masked values"):
            use()
    assert fitted.predict(np.ma.array(X)).tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("column", [pandas.Series(list(X)), [np.ones(2), np.ones(3), np.ones(3)]])
def test_vectors_in_a_column_or_of_other_lengths_are_named(column):
    with pytest.raises(VectorError, match=r"the vectors are a column of arrays, or of different lengths; .*np\.stack"):
        TipAdapterClassifier(1.0, 5.5).fit(column, ["a", "b", "c"])
