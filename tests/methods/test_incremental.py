"""Photos and classes come and go; the result is that of a refit."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support_cases import case

from tip_adapter import ClassEmbeddings, TipAdapterClassifier, TipAdapterFClassifier, ZeroShotClassifier
from tip_adapter.methods import incremental
from tip_adapter.methods.labels import with_ids

STATE = ("keys_", "labels_", "classes_", "weights_", "ids_")
every_kind = pytest.mark.parametrize("kind", [np.asarray, torch.tensor], ids=["numpy", "torch"])
named = pytest.mark.parametrize("names", [True, False], ids=["names", "cache alone"])


def assert_same_state(one, other, but=()):
    for name in STATE:
        if name not in but:
            assert np.array_equal(np.asarray(getattr(one, name)), np.asarray(getattr(other, name))), name


def new(example, names):
    return TipAdapterClassifier(class_embeddings=example.class_embeddings if names else None)


def ids_of(example):
    return [f"photo {row}" for row in range(len(example.y))]


@every_kind
@named
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_learning_in_parts_equals_learning_at_once(names, kind, dtype):
    example = case([3, 2, 4, 1], dtype=dtype)
    order, ids = np.random.default_rng(0).permutation(10), np.array(ids_of(example))
    X, y, ids = kind(example.X[order]), example.y[order], ids[order]
    taught = new(example, names).fit(X[:4], y[:4], ids=ids[:4].tolist())
    for rows in (slice(4, 5), slice(5, 5), slice(5, 10)):
        taught.partial_fit(X[rows], y[rows], ids=ids[rows].tolist())
    assert_same_state(taught, new(example, names).fit(X, y, ids=ids.tolist()))


@named
def test_partial_fit_begins_where_nothing_was_learned(names):
    example = case([2, 2])
    taught = new(example, names).partial_fit(example.X, example.y, classes=np.unique(example.y))
    assert_same_state(taught, new(example, names).fit(example.X, example.y))


@every_kind
@named
def test_removing_equals_never_having_learned(names, kind):
    example, ids = case([3, 2, 4]), [f"photo {row}" for row in range(9)]
    X = kind(example.X)
    taught = new(example, names).fit(X, example.y, ids=ids).remove(["photo 8", "photo 0", "photo 3"])
    kept = [1, 2, 4, 5, 6, 7]
    expected = new(example, names).fit(X[kept], example.y[kept], ids=[ids[row] for row in kept])
    assert_same_state(taught, expected)


def test_without_names_a_class_leaves_with_its_last_photo():
    clf = TipAdapterClassifier().fit(np.eye(3), ["a", "b", "c"], ids=["1", "2.jpg", "3"]).remove("2.jpg")
    assert clf.classes_.tolist() == ["a", "c"]
    assert clf.labels_.tolist() == [0, 1]
    with pytest.raises(ValueError, match="no class would be left"):
        clf.remove(["1", "3"])
    assert clf.ids_.tolist() == ["1", "3"]


def test_with_names_a_class_stays_without_photos():
    names = ClassEmbeddings(["a", "b"], np.eye(2))
    clf = TipAdapterClassifier(class_embeddings=names).fit(np.eye(2), ["a", "b"]).remove(["0", "1"])
    assert clf.classes_.tolist() == ["a", "b"]
    assert clf.predict(np.eye(2)).tolist() == ["a", "b"]


@named
def test_a_removed_class_was_never_there(names):
    example = case([3, 2, 4])
    gone = example.y == np.unique(example.y)[1]
    taught = new(example, names).fit(example.X, example.y, ids=ids_of(example)).remove_class(np.unique(example.y)[1])
    rest = np.flatnonzero(~gone)
    embeddings = example.class_embeddings.without(np.unique(example.y)[1]) if names else None
    expected = TipAdapterClassifier(class_embeddings=embeddings)
    expected.fit(example.X[rest], example.y[rest], ids=[ids_of(example)[row] for row in rest])
    assert_same_state(taught, expected)
    np.testing.assert_array_equal(taught.logits(example.queries), expected.logits(example.queries))


def test_a_new_class_with_a_name_is_learned_after_larger_embeddings_are_set():
    example = case([3, 2, 4, 0])
    last = np.unique(example.class_embeddings.labels)[-1]
    smaller = example.class_embeddings.without(last)
    clf = TipAdapterClassifier(class_embeddings=smaller).fit(example.X, example.y)
    with pytest.raises(ValueError, match="has no class embedding"):
        clf.partial_fit(example.X[:1], [last])
    clf.set_params(class_embeddings=example.class_embeddings).partial_fit(example.X[:1], [last])
    X, y = np.concatenate([example.X, example.X[:1]]), np.concatenate([example.y, [last]])
    assert_same_state(clf, TipAdapterClassifier(class_embeddings=example.class_embeddings).fit(X, y))


def test_embeddings_that_are_set_back_count_again():
    larger = ClassEmbeddings(["a", "b", "c"], np.eye(3))
    smaller = larger.without("c")
    clf = TipAdapterClassifier(class_embeddings=smaller).fit(np.eye(3)[:2], ["a", "b"])
    for names in (larger, smaller):
        clf.set_params(class_embeddings=names).partial_fit(np.eye(3)[:1], ["a"])
        assert clf.classes_.tolist() == names.labels.tolist()


def test_embeddings_without_a_class_that_has_photos_are_refused():
    clf = TipAdapterClassifier(class_embeddings=ClassEmbeddings(["a", "b"], np.eye(2))).fit(np.eye(2), ["a", "b"])
    clf.set_params(class_embeddings=ClassEmbeddings(["a"], np.eye(2)[:1]))
    with pytest.raises(ValueError, match="'b' has no class embedding"):
        clf.partial_fit(np.eye(2)[:1], ["a"])


# Ids


def test_rows_without_an_id_get_running_ones_that_are_never_given_twice():
    clf = TipAdapterClassifier().fit(np.eye(4), list("aabb"), ids=["x", None, "1", None])
    assert clf.ids_.tolist() == ["x", "0", "1", "2"]
    clf.remove("2").partial_fit(np.eye(4)[:1], ["a"])
    assert clf.ids_.tolist() == ["x", "0", "1", "3"]


@pytest.mark.parametrize(
    ("ids", "reason"),
    [(["a", "a"], "id 'a' is there already"), ([1, 2], "id 1 is not text"), (["a"], "1 ids for 2 rows")],
)
def test_ids_that_are_none_are_refused(ids, reason):
    with pytest.raises(ValueError, match=reason):
        TipAdapterClassifier().fit(np.eye(2), ["a", "b"], ids=ids)


@pytest.mark.parametrize(
    ("teach", "reason"),
    [
        (lambda clf: clf.partial_fit(np.eye(2)[:1], ["a"], ids=["0"]), "id '0' is there already"),
        (lambda clf: clf.partial_fit(np.eye(3)[:1], ["a"]), "3 features"),
        (lambda clf: clf.partial_fit(np.full((1, 2), np.nan), ["a"]), "NaN"),
        (lambda clf: clf.partial_fit(np.eye(2), ["a"]), "inconsistent numbers of samples"),
        (lambda clf: clf.partial_fit(np.eye(2)[:1], [3]), "of another kind"),
        (lambda clf: clf.partial_fit(np.eye(2)[:1], ["z"], classes=["a", "b"]), "'z' is not among the classes given"),
        (lambda clf: clf.remove(["0", "7"]), "id '7' is not there"),
        (lambda clf: clf.remove(["0", "0"]), "id '0' is given twice"),
        (lambda clf: clf.remove_class("z"), "no class 'z'"),
    ],
)
def test_what_cannot_be_taught_changes_nothing(teach, reason):
    clf = TipAdapterClassifier().fit(np.eye(2), ["a", "b"])
    with pytest.raises(ValueError, match=reason):
        teach(clf)
    assert_same_state(clf, TipAdapterClassifier().fit(np.eye(2), ["a", "b"]))


def test_the_only_class_stays():
    clf = TipAdapterClassifier().fit(np.eye(2), ["a", "a"])
    with pytest.raises(ValueError, match="'a' is the only class"):
        clf.remove_class("a")


def test_who_holds_the_old_arrays_keeps_a_consistent_state():
    clf = TipAdapterClassifier().fit(np.eye(3), ["a", "b", "c"])
    held = {name: getattr(clf, name) for name in STATE}
    copies = {name: value.copy() for name, value in held.items()}
    clf.partial_fit(np.eye(3), ["d", "a", "b"]).remove(["0"]).remove_class("c")
    assert all(np.array_equal(held[name], copies[name]) for name in STATE)


def test_learned_keys_cannot_be_taught_in_place():
    assert not hasattr(TipAdapterFClassifier, "partial_fit")
    assert not hasattr(TipAdapterFClassifier, "remove")
    assert not hasattr(ZeroShotClassifier, "partial_fit")


class Teaching(RuleBasedStateMachine):
    """Against a plain list of photos, fitted anew."""

    @initialize(seed=st.integers(0, 99), names=st.booleans())
    def begin(self, seed, names):
        self.rng = np.random.default_rng(seed)
        classes = list("abcd")
        self.embeddings = ClassEmbeddings(classes, self.rng.standard_normal((4, 5))) if names else None
        self.photos = {}
        X = self.rng.standard_normal((2, 5))
        for row, label in enumerate("ab"):
            self.photos[f"first {row}"] = (X[row], label)
        self.clf = TipAdapterClassifier(class_embeddings=self.embeddings).fit(X, ["a", "b"], ids=list(self.photos))
        self.count = 0

    def labels(self):
        known = {label for _, label in self.photos.values()} if self.embeddings is None else set(self.clf.classes_)
        return sorted(known)

    @rule(data=st.data(), n=st.integers(0, 3))
    def add(self, data, n):
        choices = list("abcd") if self.embeddings is None else self.labels()
        y = [data.draw(st.sampled_from(choices)) for _ in range(n)]
        ids = [f"photo {self.count + row}" for row in range(n)]
        X = self.rng.standard_normal((n, 5))
        self.count += n
        self.clf.partial_fit(X, np.array(y, dtype="<U1"), ids=ids)
        self.photos |= {name: (X[row], y[row]) for row, name in enumerate(ids)}

    @rule(data=st.data())
    def remove(self, data):
        gone = data.draw(st.lists(st.sampled_from(sorted(self.photos)), unique=True, max_size=2)) if self.photos else []
        if self.embeddings is None and len(gone) == len(self.photos):
            return
        self.clf.remove(gone)
        for name in gone:
            del self.photos[name]

    @rule(data=st.data())
    def remove_class(self, data):
        label = data.draw(st.sampled_from(self.labels()))
        if len(self.clf.classes_) == 1:
            return
        self.clf.remove_class(label)
        self.photos = {name: photo for name, photo in self.photos.items() if photo[1] != label}
        if self.embeddings is not None:
            self.embeddings = self.embeddings.without(label)

    @invariant()
    def it_is_a_refit(self):
        if not hasattr(self, "clf"):
            return
        X = np.array([x for x, _ in self.photos.values()]).reshape(-1, 5)
        y = np.array([label for _, label in self.photos.values()], dtype="<U1")
        expected = TipAdapterClassifier(class_embeddings=self.embeddings).fit(X, y, ids=list(self.photos))
        assert_same_state(self.clf, expected)
        queries = np.random.default_rng(0).standard_normal((3, 5))
        assert np.array_equal(self.clf.logits(queries), expected.logits(queries))


TestTeaching = Teaching.TestCase
TestTeaching.settings = settings(stateful_step_count=15)


# Evidence


@pytest.mark.slow
@pytest.mark.parametrize("method", [TipAdapterClassifier, TipAdapterFClassifier])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(seed=st.integers(0, 9999), data=st.data())
def test_a_logit_is_the_sum_of_its_evidence(method, dtype, seed, data):
    counts = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))
    example = case(counts, seed=seed, dtype=dtype)
    names = example.class_embeddings if data.draw(st.booleans()) or not sum(counts) else None
    clf = method(alpha=data.draw(st.floats(0, 50)), class_embeddings=names).fit(example.X, example.y)
    logits = clf.logits(example.queries)
    for row, evidence in zip(logits, clf.explain(example.queries), strict=True):
        assert [e.logit for e in evidence] == sorted((e.logit for e in evidence), reverse=True)
        assert sorted(e.label for e in evidence) == clf.classes_.tolist()
        for e in evidence:
            logit = row[clf.classes_.tolist().index(e.label)]
            whole = e.text + sum(photo.part for photo in e.images) + e.others
            assert e.logit == pytest.approx(whole, abs=1e-9)
            assert logit == pytest.approx(whole, abs=1e-4, rel=1e-5)
            assert len(e.images) + e.n_others == (clf.classes_[clf.labels_] == e.label).sum()
            parts = [photo.part for photo in e.images]
            assert parts == sorted(parts, reverse=True)
            assert e.n_others == 0 or e.others <= e.n_others * parts[-1] + 1e-9


def test_evidence_names_photos_by_their_ids():
    clf = TipAdapterClassifier(alpha=2.0, beta=1.0).fit(np.eye(2), ["a", "b"], ids=["x.jpg", "y.jpg"])
    best, other = clf.explain([[1.0, 0.0]])[0]
    assert (best.label, best.images[0].id, best.images[0].part, best.text) == ("a", "x.jpg", 2.0, 0.0)
    assert (other.label, other.images[0].id) == ("b", "y.jpg")
    assert other.images[0].part == pytest.approx(2 * np.exp(-1))


@every_kind
def test_evidence_of_no_queries_is_none(kind):
    assert TipAdapterClassifier().fit(kind(np.eye(2)), ["a", "b"]).explain(kind(np.zeros((0, 2)))) == []


def test_an_id_with_nul_is_refused_since_numpy_would_drop_it():
    example = case([2, 2])
    with pytest.raises(ValueError, match=r"id '1\\x00' contains NUL"):
        new(example, True).fit(example.X, example.y, ids=["1", "1\0", "2", "3"])


@pytest.fixture
def frequent_switches():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@named
@pytest.mark.usefixtures("frequent_switches")
def test_fault_83_threads_that_teach_one_classifier_lose_nothing_and_predictions_stay_whole(names):
    X, y, wrong, taught = np.repeat(np.eye(3, 8), 2, axis=0), np.repeat(list("abc"), 2), [], threading.Event()
    embeddings = ClassEmbeddings(list("abc"), np.eye(3, 8)) if names else None
    clf = TipAdapterClassifier(class_embeddings=embeddings).fit(X, y)

    def teach(thread):
        for i in range(60):
            clf.partial_fit(X[[i % 6]], y[[i % 6]], ids=[f"{thread} {i}"])
            if i % 3 == 0:
                clf.remove([f"{thread} {i}"])

    def predict():
        while not taught.is_set():
            try:
                if clf.predict(X).tolist() != y.tolist() or len(clf.explain(X[:1])[0]) != 3:
                    wrong.append("another label")
            except Exception as error:
                wrong.append(error)

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(predict) for _ in range(2)]
        for teacher in [pool.submit(teach, thread) for thread in range(3)]:
            teacher.result()
        taught.set()
        for reader in readers:
            reader.result()
    assert not wrong
    assert len(clf.ids_) == len(clf.keys_) == len(clf.labels_) == 6 + 3 * 40
    assert {f"{thread} {i}" for thread in range(3) for i in range(60) if i % 3} <= set(clf.ids_.tolist())


def test_fault_83_a_setting_made_while_another_thread_teaches_is_kept(monkeypatch):
    example = case([2, 2])
    clf = new(example, True).fit(example.X, example.y)

    def meanwhile(*_args):
        clf.set_params(alpha=7.0)
        return with_ids(*_args)

    monkeypatch.setattr(incremental, "with_ids", meanwhile)
    assert clf.partial_fit(example.X[:1], example.y[:1]).alpha == 7.0
    assert len(clf.ids_) == 5
