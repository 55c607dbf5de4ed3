"""Random unbalanced support sets: classes without photos, one class, one photo, any width from 1."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tip_adapter import ClassEmbeddings


@dataclass(frozen=True)
class Case:
    """Vectors of any length with labels 0 … n_classes − 1, in random order."""

    X: Any
    labels: Any
    queries: Any
    weights: Any
    alpha: float
    beta: float
    logit_scale: float

    @property
    def y(self):
        return np.array([f"class {label}" for label in self.labels], dtype="<U8")

    @property
    def class_embeddings(self):
        """In another order than the sorted labels."""
        order = np.random.default_rng(1).permutation(len(self.weights))
        return ClassEmbeddings(np.array([f"class {label}" for label in order]), self.weights[order])

    @property
    def settings(self):
        return {
            "alpha": self.alpha,
            "beta": self.beta,
            "logit_scale": self.logit_scale,
            "class_embeddings": self.class_embeddings,
        }

    @property
    def pair(self):
        return self.alpha, self.beta, self.logit_scale


def case(counts, *, width=6, n_queries=5, seed=0, noise=1.0, dtype=np.float64, alpha=2.0, beta=3.0, logit_scale=10.0):
    """A support set with `counts` photos a class, scattered by `noise` about random centres."""
    rng = np.random.default_rng(seed)
    n_classes = len(counts)
    labels = rng.permutation(np.repeat(np.arange(n_classes), counts))
    centres = rng.standard_normal((n_classes, width))
    lengths = np.exp(rng.standard_normal((len(labels), 1)))
    X = lengths * (centres[labels] + noise * rng.standard_normal((len(labels), width)))
    queries = rng.standard_normal((n_queries, width))
    weights = rng.standard_normal((n_classes, width))
    return Case(X.astype(dtype), labels, queries.astype(dtype), weights.astype(dtype), alpha, beta, logit_scale)


@st.composite
def cases(draw, dtype=np.float64, min_width=1, min_photos=0):
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=6).filter(lambda counts: sum(counts) >= min_photos))
    return case(
        counts,
        width=draw(st.integers(min_width, 12)),
        n_queries=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 2**32 - 1)),
        dtype=dtype,
        alpha=draw(st.floats(0, 10)),
        beta=draw(st.floats(0.1, 20)),
        logit_scale=draw(st.sampled_from([1.0, 30.0, 100.0])),
    )
