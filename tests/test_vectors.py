from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tip_adapter import TipAdapterClassifier
from tip_adapter.errors import LabelError, VectorError
from tip_adapter.images.sampling import draw_shots
from tip_adapter.vectors import ClassEmbeddings, SupportSet, label_array, require_finite, softmax, unit_rows

DTYPES = [np.float32, np.float64]
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=8)
LABELS = st.lists(st.sampled_from("abcde"), max_size=40)


def rows_of(dtype: type, limit: float) -> st.SearchStrategy[np.ndarray]:
    width = np.dtype(dtype).itemsize * 8
    return hnp.arrays(dtype, SHAPES, elements=st.floats(-limit, limit, width=width))


# ---- unit rows


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_unit_rows_have_length_one_and_zero_rows_stay_zero(dtype, data):
    rows = data.draw(rows_of(dtype, float(np.finfo(dtype).max)))
    lengths = np.linalg.norm(unit_rows(rows).astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, rows.any(axis=1).astype(float), rtol=1e-5)


@given(rows_of(np.float64, 1e3))
def test_unit_rows_are_the_rows_over_their_lengths(rows):
    lengths = np.sqrt((rows.astype(np.longdouble) ** 2).sum(axis=1, keepdims=True))
    expected = rows / np.where(lengths > 0, lengths, 1)
    np.testing.assert_allclose(unit_rows(rows), expected.astype(np.float64), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pick", ["tiny", "max", "smallest_subnormal"])
def test_unit_rows_of_the_tiniest_and_largest_numbers_are_exact(dtype, pick):
    value = getattr(np.finfo(dtype), pick)
    np.testing.assert_allclose(unit_rows(np.array([[value, value], [0, -value]], dtype)), [[0.5**0.5] * 2, [0, -1]])


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_unit_rows_of_a_tensor_are_those_of_the_array(dtype, data):
    rows = data.draw(rows_of(dtype, 1e6))
    result = unit_rows(torch.from_numpy(rows))
    assert result.dtype == torch.from_numpy(rows).dtype
    np.testing.assert_allclose(result.numpy(), unit_rows(rows), rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (2, 3), (1, 1)])
def test_unit_rows_keep_shape_and_dtype_and_leave_their_input_alone(dtype, shape):
    rows = np.full(shape, 2, dtype)
    result = unit_rows(rows)
    assert (result.shape, result.dtype) == (shape, dtype)
    assert (rows == 2).all()


# ---- softmax


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_softmax_rows_are_probabilities(dtype, data):
    result = softmax(data.draw(rows_of(dtype, 2.0**100)))
    assert result.dtype == dtype
    assert (result >= 0).all()
    np.testing.assert_allclose(result.sum(axis=1), 1, rtol=1e-5)


@given(rows_of(np.float64, 50))
def test_softmax_is_the_formula_and_does_not_see_a_shift(logits):
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(logits), expected, rtol=1e-9)
    np.testing.assert_allclose(softmax(logits + 1e4), expected, rtol=1e-8)


@given(rows_of(np.float32, 100))
def test_softmax_of_a_tensor_is_that_of_the_array(logits):
    result = softmax(torch.from_numpy(logits))
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), softmax(logits), rtol=1e-5, atol=1e-30)


def test_softmax_of_no_rows_is_no_rows():
    assert softmax(np.zeros((0, 3))).shape == (0, 3)


# ---- class embeddings


def test_class_embeddings_stay_with_their_labels_when_sorted():
    ordered = ClassEmbeddings(["dog", "ant", "cat"], [[1.0, 0], [2, 0], [3, 0]]).sorted_by_label()
    assert dict(zip(ordered.labels.tolist(), ordered.matrix[:, 0].tolist(), strict=True)) == {
        "ant": 2,
        "cat": 3,
        "dog": 1,
    }
    assert ordered.labels.tolist() == ["ant", "cat", "dog"]


def test_class_embeddings_take_a_tensor_and_keep_it():
    ordered = ClassEmbeddings(np.array([7, 3]), torch.tensor([[7.0], [3.0]])).sorted_by_label()
    assert ordered.matrix.tolist() == [[3.0], [7.0]]
    assert isinstance(ordered.matrix, torch.Tensor)


def test_class_embeddings_say_how_many_and_how_wide():
    assert repr(ClassEmbeddings(["a", "b"], np.zeros((2, 5)))) == "ClassEmbeddings(2 classes, width 5)"
    assert len(ClassEmbeddings(["a", "b"], np.zeros((2, 5)))) == 2


@pytest.mark.parametrize(
    ("labels", "matrix"),
    [
        (["a"], np.zeros((2, 3))),
        (["a", "b"], np.zeros(2)),
        ([["a"], ["b"]], np.zeros((2, 3))),
        (["a", "b"], torch.zeros((3, 3))),
    ],
)
def test_class_embeddings_need_one_row_per_label(labels, matrix):
    with pytest.raises(VectorError, match="one row per label"):
        ClassEmbeddings(labels, matrix)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_class_embeddings_refuse_what_is_not_finite(value, kind):
    with pytest.raises(VectorError, match="NaN or infinity"):
        ClassEmbeddings(["a", "b"], kind([[1.0, 0.0], [value, 1.0]]))


def test_class_embeddings_refuse_a_label_that_stands_twice_and_name_it():
    with pytest.raises(LabelError, match="cat"):
        ClassEmbeddings(["cat", "dog", "cat"], np.eye(3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_class_embeddings_of_half_precision_answer_numpy_too(dtype):
    embeddings = ClassEmbeddings(["a", "b"], torch.eye(2, dtype=dtype))
    clf = TipAdapterClassifier(class_embeddings=embeddings).fit(np.eye(2, dtype=np.float32), ["a", "b"])
    assert clf.predict(np.eye(2, dtype=np.float32)).tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "matrix",
    [
        pd.DataFrame([[1.0], [2.0]]),
        [["x"], ["y"]],
        [[1.0], [1.0, 2.0]],
        np.array([["x"], ["y"]]),
        np.eye(2) > 0,
        None,
        "a",
    ],
    ids=lambda matrix: type(matrix).__name__,
)
def test_class_embeddings_that_are_no_array_of_numbers_are_refused(matrix):
    with pytest.raises(VectorError, match=r"class embeddings (take|are)"):
        ClassEmbeddings(["a", "b"], matrix)


@pytest.mark.parametrize(
    "labels", [[None, "a"], [pd.NA, "a"], [np.nan, 1.0], ["a", 1], np.array(["a", 1], object)], ids=str
)
def test_class_embeddings_refuse_labels_that_are_missing_or_of_several_kinds(labels):
    with pytest.raises(LabelError, match=r"several kinds|missing"):
        ClassEmbeddings(labels, np.eye(2))


@pytest.mark.parametrize("labels", [[np.True_, np.False_], [True, np.False_], [np.int64(1), 2], [np.float32(0.5), 2]])
def test_labels_of_numpys_own_kinds_are_those_of_python(labels):
    label_array(labels, "labels")
    with pytest.raises(LabelError, match="labels are of several kinds"):
        label_array([*labels, "text"], "labels")


@pytest.mark.parametrize("labels", [[np.True_, 1], [1.0, np.False_]])
def test_truth_values_are_no_numbers_whatever_their_kind(labels):
    with pytest.raises(LabelError, match="labels are of several kinds"):
        label_array(labels, "labels")


# ---- support sets


@pytest.mark.parametrize("vectors", [None, [[1.0]], np.ones((1, 1), int), np.array([["x"]])], ids=repr)
def test_a_support_set_refuses_what_is_no_array_of_floats(vectors):
    with pytest.raises(VectorError, match="NumPy array of floats"):
        SupportSet(vectors, np.array(["a"]), np.array(["a"]))


def support(vectors: object, n: int) -> SupportSet:
    names = np.array([f"photo {row}" for row in range(n)])
    return SupportSet(np.array(vectors, np.float32), names, names)


def test_a_support_set_may_be_empty():
    assert len(support(np.zeros((0, 4)), 0)) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_support_set_refuses_what_is_not_finite(value):
    with pytest.raises(VectorError, match="NaN or infinity"):
        support([[1, 0], [value, 0]], 2)


def test_a_support_set_refuses_a_zero_vector_and_names_the_photo():
    with pytest.raises(VectorError, match="photo 1"):
        support([[1, 0], [0, 0]], 2)


@pytest.mark.parametrize(("vectors", "n"), [(np.ones((2, 3)), 3), (np.ones(2), 2)])
def test_a_support_set_refuses_lengths_that_differ(vectors, n):
    with pytest.raises(VectorError, match=f"{n} labels"):
        support(vectors, n)


def test_what_is_not_finite_is_named():
    with pytest.raises(VectorError, match="the queries contain NaN"):
        require_finite(np.array([np.nan]), "the queries")


# ---- draws


@given(LABELS, st.integers(1, 6), st.integers(0, 5))
def test_a_draw_takes_the_shots_of_each_class_or_all_it_has(labels, shots, seed):
    drawn = draw_shots(labels, shots, seed)
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    taken = [labels[position] for position in drawn]
    assert {label: taken.count(label) for label in labels} == {
        label: min(shots, labels.count(label)) for label in labels
    }


@given(LABELS, st.integers(0, 5))
def test_draws_are_nested(labels, seed):
    draws = [set(draw_shots(labels, shots, seed).tolist()) for shots in (1, 2, 4, 8)]
    assert all(smaller <= larger for smaller, larger in pairwise(draws))


@given(LABELS, st.integers(1, 6), st.integers(0, 5))
def test_the_same_seed_gives_the_same_draw(labels, shots, seed):
    np.testing.assert_array_equal(draw_shots(labels, shots, seed), draw_shots(np.array(labels), shots, seed))


def test_other_seeds_give_other_draws():
    draws = {tuple(draw_shots(["a"] * 50 + ["b"] * 50, 4, seed).tolist()) for seed in range(20)}
    assert len(draws) == 20


def test_every_photo_can_be_drawn():
    drawn = {int(position) for seed in range(100) for position in draw_shots(["a"] * 6, 1, seed)}
    assert drawn == set(range(6))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 5, 512, 1280])
def test_unit_rows_are_left_as_they_are(dtype, width):
    rows = unit_rows(np.random.default_rng(width).standard_normal((200, width)).astype(dtype))
    assert np.array_equal(unit_rows(rows), rows)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_length_eight_roundings_from_1_counts_as_1_and_nine_do_not(dtype):
    eps = np.finfo(dtype).eps
    rows = np.array([[1 + 8 * eps], [1 + 9 * eps], [1 - 8 * eps]], dtype)
    np.testing.assert_array_equal(unit_rows(rows), np.array([[1 + 8 * eps], [1], [1 - 8 * eps]], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_class_embeddings_keep_the_precision_that_they_have(dtype):
    assert ClassEmbeddings(["a", "b"], np.eye(2, 3, dtype=dtype)).matrix.dtype == dtype


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series])
def test_a_support_set_takes_labels_ids_and_digests_of_any_sequence(kind: Any) -> None:
    columns = (kind(["a", "b"]), kind(["1.jpg", "2.jpg"]), kind(["", "f" * 64]))
    made = SupportSet(np.eye(2, dtype=np.float32), *columns)
    for found, column in zip((made.labels, made.ids, made.digests), columns, strict=True):
        assert isinstance(found, np.ndarray)
        assert found.tolist() == list(column)
    assert made.with_more(made).take(slice(1, 3)).labels.tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("labels", "ids", "reason"),
    [
        ([1, 2], ["1", "2"], r"label 1 of a support set is not text; pass str\(label\)"),
        (["a", "b"], [1, 2], r"id 1 of a support set is not text; pass str\(id\)"),
        (["a", "b"], ["1", 2], "ids of a support set are of several kinds"),
        (["a", "b"], ["1", "1\0"], "ids of a support set hold .* contains NUL"),
        (["a", "b"], None, "ids of a support set hold None"),
    ],
)
def test_a_support_set_refuses_labels_and_ids_that_are_no_texts(labels: Any, ids: Any, reason: str) -> None:
    with pytest.raises(LabelError, match=reason):
        SupportSet(np.eye(2, dtype=np.float32), labels, ids)


@pytest.mark.skipif(not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"), reason="NumPy 2 has it")
def test_text_of_variable_width_is_text() -> None:
    labels = np.array(["cat", "dog"], dtype=np.dtypes.StringDType())
    names = ClassEmbeddings(labels, np.eye(2))
    clf = TipAdapterClassifier(class_embeddings=names).fit(np.eye(2), labels)
    assert clf.predict(np.eye(2)).tolist() == ["cat", "dog"]
    assert clf.score(np.eye(2), labels) == 1
    assert SupportSet(np.eye(2, dtype=np.float32), labels, labels).labels.dtype.kind == "U"


def test_rows_without_numbers_are_as_they_are():
    assert unit_rows(np.zeros((2, 0))).shape == (2, 0)


def test_support_sets_whose_labels_differ_only_by_white_space_are_not_joined():
    one, other = (SupportSet(np.ones((1, 2), np.float32), [label], [label]) for label in ("a b", "a  b"))
    with pytest.raises(LabelError, match="white space"):
        one.with_more(other)
