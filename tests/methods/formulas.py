"""The float64 formulas, written naively from the papers: loops and one-hot matrices, nothing shared with the package."""

import numpy as np


def unit(rows):
    rows = np.array(rows, dtype=np.float64)
    for i in range(len(rows)):
        length = np.sqrt(sum(x * x for x in rows[i]))
        if length > 0:
            rows[i] = rows[i] / length
    return rows


def one_hot(labels, n_classes):
    values = np.zeros((len(labels), n_classes))
    for i, label in enumerate(labels):
        values[i, label] = 1
    return values


def zero_shot_logits(queries, weights, logit_scale):
    """s · f Wᵀ."""
    return logit_scale * queries @ weights.T


def mean_count(labels):
    """Photos in the mean of the classes that have any."""
    return len(labels) / max(len(set(np.asarray(labels).tolist())), 1)


def tip_adapter_logits(queries, keys, labels, weights, alpha, beta, logit_scale, class_sums="balanced"):
    """s · f Wᵀ + alpha · exp(−beta (1 − f Fᵀ)) L; balanced: each class's sum times mean count / its count."""
    affinities = np.exp(-beta * (1 - queries @ keys.T))
    cache = affinities @ one_hot(labels, len(weights))
    for label in range(len(weights)):
        count = sum(other == label for other in labels)
        if class_sums == "balanced" and count:
            cache[:, label] *= mean_count(labels) / count
    return zero_shot_logits(queries, weights, logit_scale) + alpha * cache


def mean_over_classes(right, labels):
    """The mean over classes of the share of their (n,) rows that are right."""
    labels, right = np.asarray(labels), np.asarray(right)
    return np.mean([np.mean(right[labels == label]) for label in np.unique(labels)])


def left_out_logits(queries, keys, labels, weights, alpha, beta, logit_scale, class_sums="balanced"):
    """Row i: the classifier refitted without photo i, as if the numbers of photos were those with it.

    Raw: the sum of the photo's class times K_c / (K_c − 1). Balanced: all sums times mean count with it / mean count without.
    """
    labels = np.asarray(labels)
    logits = np.zeros((len(keys), len(weights)))
    for i, own in enumerate(labels):
        others = [j for j in range(len(keys)) if j != i]
        count = sum(label == own for label in labels)
        text = zero_shot_logits(queries[i : i + 1], weights, logit_scale)
        given = keys[others], labels[others], weights, alpha, beta, logit_scale, class_sums
        cache = (tip_adapter_logits(queries[i : i + 1], *given) - text)[0]
        if class_sums == "balanced" and others:
            cache *= mean_count(labels) / mean_count(labels[others])
        elif count > 1:
            cache[own] *= count / (count - 1)
        logits[i] = text[0] + cache
    return logits


def fine_tuning_loss(queries, rows, keys, labels, weights, alpha, beta, logit_scale, own_key):
    """Mean cross-entropy of queries `rows` (photo numbers), each times mean count / its class's; own_key is "keep" or "leave-out"."""
    if own_key == "keep":
        logits = tip_adapter_logits(queries, keys, labels, weights, alpha, beta, logit_scale)
    else:
        seen = np.zeros_like(keys)
        seen[rows] = queries
        logits = left_out_logits(seen, keys, labels, weights, alpha, beta, logit_scale)[rows]
    losses = []
    for row, photo in zip(logits, rows, strict=True):
        top = row.max()
        loss = top + np.log(np.exp(row - top).sum()) - row[labels[photo]]
        losses.append(loss * mean_count(labels) / np.sum(labels == labels[photo]))
    return np.mean(losses)
