"""L-BFGS for smooth convex functions with a known scale of curvature: the solver of the logistic regressions."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_MOST_ITERATIONS = 1000
#: Steps that are remembered; the share of the expected decrease that a step must reach, and how often it is halved for that.
_MEMORY, _SUFFICIENT, _MOST_HALVINGS = 10, 1e-4, 30


def summed_cross_entropy(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """Cross-entropy of (m, n_classes) logits, summed over their (m,) labels, and their probabilities."""
    logits = logits - logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(labels)), labels]
    probabilities = np.exp(logits, out=logits)
    sums = probabilities.sum(axis=1, keepdims=True)
    probabilities /= sums
    return float((np.log(sums[:, 0]) - own).sum()), probabilities


def minimise(
    loss_and_gradient: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    start: NDArray[np.float64],
    scale: NDArray[np.float64],
    tolerance: float,
) -> NDArray[np.float64]:
    """The minimum of a convex function by L-BFGS, to a norm of the gradient.

    scipy.optimize's takes longer for a step than the gradient, since it keeps bounds, and begins without a scale.

    Parameters
    ----------
    loss_and_gradient : as it says, of an array
    start : array
    scale : array, of the inverse curvature by coordinate
    tolerance : float
    """
    x = start
    loss, gradient = loss_and_gradient(x)
    steps: deque[tuple[NDArray[np.float64], NDArray[np.float64], float]] = deque(maxlen=_MEMORY)
    for _ in range(_MOST_ITERATIONS):
        if np.vdot(gradient, gradient) < tolerance**2:
            break
        direction = _direction(gradient, steps, scale)
        decrease, length = float(np.vdot(gradient, direction)), 1.0
        for _ in range(_MOST_HALVINGS):
            next_loss, next_gradient = loss_and_gradient(x - length * direction)
            if next_loss <= loss - _SUFFICIENT * length * decrease:
                break
            length /= 2
        else:  # no lower loss that rounding would show
            break
        step, change = -length * direction, next_gradient - gradient
        x, loss, gradient = x + step, next_loss, next_gradient
        curvature = float(np.vdot(step, change))
        if curvature > 0:
            steps.append((step, change, curvature))
    return x


def _direction(
    gradient: NDArray[np.float64],
    steps: Sequence[tuple[NDArray[np.float64], NDArray[np.float64], float]],
    scale: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The inverse curvature that the last steps show, times the gradient: L-BFGS's two loops."""
    direction, shares = gradient.copy(), []
    for step, change, curvature in reversed(steps):
        shares.append(float(np.vdot(step, direction)) / curvature)
        direction -= shares[-1] * change
    direction *= scale
    if steps:
        _, change, curvature = steps[-1]
        direction *= curvature / float(np.vdot(change, scale * change))
    for step, change, curvature in steps:
        direction += (shares.pop() - float(np.vdot(change, direction)) / curvature) * step
    return direction
