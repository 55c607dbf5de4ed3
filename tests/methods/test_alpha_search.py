import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter.methods.alpha_search import (
    AccuracyCurve,
    best_alpha_beta,
    central_alpha_beta,
    correct_between,
    nearest_alpha_beta,
)


def lines(seed, n_rows, n_classes):
    """Text and cache logits, and labels, of random rows."""
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((n_rows, n_classes)),
        rng.random((n_rows, n_classes)),
        rng.integers(n_classes, size=n_rows),
    )


def curve_of(text, cache, labels, beta=1.0, unit=None):
    text, labels = np.array(text, float), np.array(labels)
    behind = text - text[np.arange(len(labels)), labels][:, None]
    return AccuracyCurve.of(correct_between(behind, np.array(cache, float), labels), beta, unit)


def n_correct(text, cache, labels, alpha):
    return int(((text + alpha * cache).argmax(axis=1) == labels).sum())


def at(curve, alpha):
    return curve.n_correct[np.searchsorted(curve.ends, alpha, side="right") - 1]


rows = given(seed=st.integers(0, 9999), n_rows=st.integers(1, 30), n_classes=st.integers(1, 6))


@rows
def test_every_step_counts_the_rows_that_are_right_in_it(seed, n_rows, n_classes):
    text, cache, labels = lines(seed, n_rows, n_classes)
    curve = curve_of(text, cache, labels)
    inner = np.concatenate([curve.ends[:-1], curve.ends[-2:-1] + 2.0])
    middles = (inner[:-1] + inner[1:]) / 2
    wide = np.diff(inner) > 1e-9
    expected = [n_correct(text, cache, labels, alpha) for alpha in middles[wide]]
    assert curve.n_correct[wide].tolist() == expected


@rows
def test_no_alpha_is_better_than_the_best_step(seed, n_rows, n_classes):
    text, cache, labels = lines(seed, n_rows, n_classes)
    best = curve_of(text, cache, labels).best
    alphas = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 200)])
    counts = [n_correct(text, cache, labels, alpha) for alpha in alphas]
    assert max(counts) <= best


@rows
def test_the_pair_attains_the_best_step(seed, n_rows, n_classes):
    text, cache, labels = lines(seed, n_rows, n_classes)
    curve = curve_of(text, cache, labels, unit=0.7)
    alpha, beta = best_alpha_beta([curve], n_rows)
    assert n_correct(text, cache, labels, alpha) == curve.best
    assert beta == 1.0


def test_a_row_is_right_between_the_crossings_of_its_own_line():
    """Own line 2a; one above it until 2a = 1, one above it from 2a = 3a - 4."""
    lowest, highest = correct_between(np.array([[0.0, 1.0, -4.0]]), np.array([[2.0, 0.0, 3.0]]), np.array([0]))[:, 0]
    assert (lowest, highest) == (0.5, 4.0)


@pytest.mark.parametrize(("label", "right"), [(0, 1), (1, 0)])
def test_lines_that_are_the_same_tie_to_the_lower_class(label, right):
    assert curve_of([[1.0, 1.0]], [[0.3, 0.3]], [label]).n_correct.tolist() == [right]


def test_a_row_below_a_parallel_line_is_never_right():
    assert curve_of([[0.0, 1.0]], [[0.3, 0.3]], [0]).n_correct.tolist() == [0]


def test_a_parallel_line_above_one_row_leaves_the_other_rows_as_they_are():
    text, cache = [[0.0, 1.0, -1.0], [1.0, 0.0, 0.0]], [[0.3, 0.3, 0.0], [0.5, 0.2, 0.2]]
    assert curve_of(text, cache, [0, 0]).n_correct.tolist() == [1]


def test_a_class_that_the_cache_argues_against_is_right_only_below_the_crossing():
    curve = curve_of([[1.0, 0.0]], [[0.0, 1.0]], [0])
    assert curve.ends.tolist() == [0.0, 1.0, np.inf]
    assert curve.n_correct.tolist() == [1, 0]


def steps(ends, counts, beta=1.0, unit=1.0):
    return AccuracyCurve(beta, unit, np.array([0.0, *ends, np.inf]), np.array(counts))


def test_where_merges_neighbouring_steps():
    curve = steps([1.0, 2.0, 4.0, 8.0], [1, 5, 6, 2, 5])
    np.testing.assert_allclose(curve.where(5), np.log([[1.0, 4.0], [8.0, 64.0]]))


def test_where_speaks_in_units():
    np.testing.assert_allclose(steps([10.0, 20.0], [0, 1, 0], unit=10.0).where(1), np.log([[1.0, 2.0]]))


def test_without_a_unit_alpha_is_counted_in_ones():
    np.testing.assert_allclose(steps([2.0, 8.0], [0, 1, 0], unit=None).where(1), np.log([[2.0, 8.0]]))


def test_steps_within_rounding_do_not_count():
    assert steps([1.0, 1.0 + 1e-7], [3, 9, 4]).best == 4


def test_of_equal_steps_the_one_nearest_to_the_plateaus_centre_is_taken():
    """100 rows, 90 right: two standard errors are 6 rows. The plateau spans 1/4 ... 64, its centre is at 4."""
    curve = steps([1 / 4, 1 / 2, 3.0, 5.0, 32.0], [0, 90, 88, 90, 88, 90])
    assert best_alpha_beta([curve], 100) == pytest.approx((np.sqrt(15), 1.0))
    assert central_alpha_beta([curve], 100) == pytest.approx((4.0, 1.0))


def test_a_wider_plateau_at_another_beta_draws_the_pair_there():
    narrow, wide = steps([1.0, 1.1], [0, 90, 0], beta=1.0), steps([1.0, 16.0], [0, 90, 0], beta=4.0)
    assert best_alpha_beta([narrow, wide], 100) == pytest.approx((4.0, 4.0))
    assert central_alpha_beta([narrow, wide], 100)[1] == 4.0


def test_fewer_rows_make_a_wider_plateau():
    """Of 10 rows, 9 right, two standard errors are 1.9 rows, of 1,000, 900 right, 19: 8 of 10 is as good, 80 % is not."""
    few, many = (steps([1.0, 2.0, 32.0], [0, 9 * n, 8 * n, 0]) for n in (1, 100))
    assert central_alpha_beta([few], 10)[0] == pytest.approx(np.sqrt(32))
    assert central_alpha_beta([many], 1000)[0] == pytest.approx(np.sqrt(2))


def test_the_centre_is_taken_only_where_it_is_as_good():
    """The centre of two plateaus lies in the hole between them: the nearest edge."""
    curve = steps([1.0, 4.0, 5.0, 20.0], [0, 90, 10, 90, 0])
    assert central_alpha_beta([curve], 100)[0] in (pytest.approx(4.0, rel=0.02), pytest.approx(5.0, rel=0.02))
    assert curve.n_correct[np.searchsorted(curve.ends, central_alpha_beta([curve], 100)[0]) - 1] == 90


@pytest.mark.parametrize("scale", [1.0, 1 / 20])
def test_the_pair_keeps_a_hundredth_from_the_edge_of_the_plateau(scale):
    """Wherever the plateau is: its ends may be above or below the unit."""
    low, high = 4.0 * scale, 5.0 * scale
    curve = steps([scale, low, high, 20.0 * scale], [0, 90, 10, 90, 0])
    alpha, _ = central_alpha_beta([curve], 100)
    assert alpha == pytest.approx(low * np.exp(-0.01)) or alpha == pytest.approx(high * np.exp(0.01))


@pytest.mark.parametrize(("n_correct", "alpha"), [(84, 2.0), (83, np.sqrt(2))])
def test_two_standard_errors_below_the_best_belong_to_the_plateau(n_correct, alpha):
    """Of 100 rows 90 right: two standard errors are 6 rows, and exactly 84 right are enough."""
    curve = steps([1.0, 2.0, 4.0], [0, 90, n_correct, 0])
    assert central_alpha_beta([curve], 100)[0] == pytest.approx(alpha)


def test_a_plateau_out_of_reach_is_not_taken_though_it_is_nearer_to_the_centre():
    """Two narrow plateaus at betas 1 and 4, far apart; that of beta 2 starts at twice the reach."""
    curves = [
        steps([1 / 64, 1 / 60], [0, 90, 0], beta=1.0),
        steps([128.0, 256.0], [0, 90, 0], beta=2.0),
        steps([60.0, 64.0], [0, 90, 0], beta=4.0),
    ]
    assert central_alpha_beta(curves, 100)[1] in (1.0, 4.0)


@rows
def test_the_central_pair_is_within_two_standard_errors_of_the_best(seed, n_rows, n_classes):
    text, cache, labels = lines(seed, n_rows, n_classes)
    curve = curve_of(text, cache, labels, unit=0.7)
    alpha, _ = central_alpha_beta([curve], n_rows)
    best = curve.best
    least = best - 2 * np.sqrt(best * (1 - best / n_rows))
    edge = np.abs(np.log(np.maximum(curve.ends[1:-1], 1e-9) / alpha)).min(initial=1) < 1e-9
    assert edge or n_correct(text, cache, labels, alpha) >= least - 1e-9


@pytest.mark.parametrize(("ends", "alpha"), [([1 / 512], 1 / np.sqrt(2) / 512), ([512.0], np.sqrt(2) * 512)])
def test_a_best_step_out_of_reach_is_still_taken(ends, alpha):
    counts = [9, 1] if ends[0] < 1 else [1, 9]
    assert best_alpha_beta([steps(ends, counts)], 10)[0] == pytest.approx(alpha)


def test_where_alpha_does_not_matter_it_is_the_unit():
    assert best_alpha_beta([steps([], [7], unit=3.0)], 10) == pytest.approx((3.0, 1.0))


def test_a_spread_that_is_none_leaves_alpha_as_its_own_unit():
    assert best_alpha_beta([steps([], [7], unit=None)], 10) == pytest.approx((1.0, 1.0))


def test_what_is_out_of_reach_does_not_draw_the_centre():
    """Names alone are as good as any small alpha: of all those below 1/64 of the unit none counts."""
    curve = steps([1e-9, 1e-6, 1e-3, 64.0], [90, 89, 90, 90, 0])
    assert central_alpha_beta([curve], 100)[0] == pytest.approx(1.0)


@given(
    seed=st.integers(0, 9999),
    n_rows=st.integers(2, 40),
    start=st.tuples(st.floats(0.2, 5), st.floats(0.5, 20)),
    unit=st.sampled_from([None, 0.2, 5.0]),
)
def test_the_nearest_pair_is_the_start_where_that_is_as_good_and_else_on_the_way_to_it(seed, n_rows, start, unit):
    text, cache, labels = lines(seed, n_rows, 4)
    betas = np.geomspace(0.5, 20, 9)
    curves = [curve_of(text, cache**beta, labels, beta, unit) for beta in betas]
    alpha, beta = nearest_alpha_beta(curves, n_rows, start)
    best = max(curve.best for curve in curves)
    enough = best - np.sqrt(best * (1 - best / n_rows)) - 1e-9
    curve = curves[int(np.argmin(abs(betas - beta)))]
    assert at(curve, alpha) >= enough

    def distance(alpha, beta):
        return np.hypot(np.log(alpha / start[0]), np.log(beta / start[1]))

    # No pair of a fine grid that is as good is nearer, but for the distance that is kept from the ends of a step.
    for other in curves:
        for log_alpha in np.linspace(-4, 4, 161):
            candidate = start[0] * np.exp(log_alpha)
            if at(other, candidate) >= enough and at(other, candidate * 1.02) >= enough <= at(other, candidate / 1.02):
                assert distance(alpha, beta) <= distance(candidate, other.beta) + 0.05
