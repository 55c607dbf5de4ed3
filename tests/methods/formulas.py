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


def tip_adapter_logits(queries, keys, labels, weights, alpha, beta, logit_scale):
    """s · f Wᵀ + alpha · exp(−beta (1 − f Fᵀ)) L."""
    affinities = np.exp(-beta * (1 - queries @ keys.T))
    cache = affinities @ one_hot(labels, len(weights))
    return zero_shot_logits(queries, weights, logit_scale) + alpha * cache


def left_out_logits(queries, keys, labels, weights, alpha, beta, logit_scale):
    """Row i: the classifier refitted without photo i, its class's sum times K_c / (K_c − 1)."""
    labels = np.asarray(labels)
    logits = np.zeros((len(keys), len(weights)))
    for i, own in enumerate(labels):
        others = [j for j in range(len(keys)) if j != i]
        count = sum(label == own for label in labels)
        text = zero_shot_logits(queries[i : i + 1], weights, logit_scale)
        both = tip_adapter_logits(queries[i : i + 1], keys[others], labels[others], weights, alpha, beta, logit_scale)
        cache = (both - text)[0]
        if count > 1:
            cache[own] *= count / (count - 1)
        logits[i] = text[0] + cache
    return logits


def fine_tuning_loss(queries, rows, keys, labels, weights, alpha, beta, logit_scale, own_key):
    """Mean cross-entropy of queries `rows` (photo numbers); own_key is "keep" or "leave-out"."""
    if own_key == "keep":
        logits = tip_adapter_logits(queries, keys, labels, weights, alpha, beta, logit_scale)
    else:
        seen = np.zeros_like(keys)
        seen[rows] = queries
        logits = left_out_logits(seen, keys, labels, weights, alpha, beta, logit_scale)[rows]
    losses = []
    for row, photo in zip(logits, rows, strict=True):
        top = row.max()
        losses.append(top + np.log(np.exp(row - top).sum()) - row[labels[photo]])
    return np.mean(losses)
