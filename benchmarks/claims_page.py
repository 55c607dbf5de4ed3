"""The pages of `benchmarks.claims`: the paper's claims with verdicts, and what each way of choosing is worth."""

from __future__ import annotations

from itertools import pairwise
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks import photos
from benchmarks.tables import shots_words, table
from tip_adapter.paper.protocols import PROTOCOLS
from tip_adapter.paper.results import grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Rows = Sequence[dict[str, Any]]
    #: Whether a claim holds, and the numbers; None where a set does not allow the check.
    Outcome = tuple[bool, str] | None

TITLES = {
    "zero-shot": "zero-shot CLIP",
    "linear-probe": "linear probe",
    "tip-adapter": "Tip-Adapter",
    "tip-adapter-f": "Tip-Adapter-F",
    "text-offset": "text-offset (ours)",
    "gda": "gda",
}
#: Choosing without validation photos.
WITHOUT_VALIDATION = ("fixed", "scale-free", "leave-one-out")


class Set(NamedTuple):
    """The results of one set of vectors."""

    title: str
    rows: Rows

    @property
    def papers_protocol(self) -> str:
        """Where the public code chooses: on the validation split, or without one on the test photos; else leave-one-out."""
        found = {row["protocol"] for row in self.rows}
        return next(name for name in ("full-validation", "oracle", "leave-one-out") if name in found)

    @property
    def shots(self) -> list[int]:
        """Numbers of shots, in order."""
        return sorted({row["shots"] for row in self.rows if row["experiment"] == "figure5" and row["shots"]})

    def accuracies(self, method: str, shots: int, protocol: str | None = None) -> list[float]:
        """Of each seed; by the paper's protocol where there is something to choose."""
        own = [
            row
            for row in self.rows
            if (row["experiment"], row["method"]) == ("figure5", method) and row["shots"] in (shots, 0)
        ]
        wanted = protocol or self.papers_protocol
        chosen = [row for row in own if row["protocol"] == wanted] or ([] if protocol else own)
        return [row["accuracy"] for row in chosen]

    def lead(self, one: str, other: str) -> dict[int, float]:
        """Shots → mean accuracy of one method minus another's, in points; empty where one was not measured."""
        pairs = {shots: (self.accuracies(one, shots), self.accuracies(other, shots)) for shots in self.shots}
        return {shots: 100 * (mean(a) - mean(b)) for shots, (a, b) in pairs.items() if a and b}

    def variant(self, prefix: str, method: str = "tip-adapter") -> dict[float, float]:
        """Value of a variant of Table 4 → mean accuracy at the most shots of Figure 5, by the paper's protocol or the fixed one."""
        own = [
            row
            for row in self.rows
            if row["experiment"] == "table4"
            and (row["method"], row["shots"]) == (method, max(self.shots, default=0))
            and row["variant"].startswith(prefix)
            and row["protocol"] in (self.papers_protocol, "fixed")
        ]
        values = sorted({float(row["variant"].removeprefix(prefix)) for row in own})
        return {
            value: 100 * mean(row["accuracy"] for row in own if float(row["variant"].removeprefix(prefix)) == value)
            for value in values
        }

    def by_variant(self, experiment: str, field: str, method: str | None = None) -> dict[str, float]:
        """Variant of an experiment → mean of a field, by the paper's protocol where there is something to choose."""
        own = [
            row
            for row in self.rows
            if row["experiment"] == experiment and method in (None, row["method"]) and field in row
        ]
        chosen = [row for row in own if row["protocol"] == self.papers_protocol] or own
        return {variant: mean(row[field] for row in rows) for (variant,), rows in grouped(chosen, ["variant"]).items()}


def sets(record: dict[str, Any]) -> list[Set]:
    return [Set(title, rows) for (title,), rows in grouped(record["rows"], ["set"]).items()]


def photo_sets() -> list[Set]:
    """The stored results of `benchmarks.photos` by the encoder that they were measured with, chosen by the support alone."""
    rows = [row for run in photos.stored() for row in run["rows"] if row["protocol"] in WITHOUT_VALIDATION]
    titles = {"pocket": "Caltech101, pocket", "toy": "Caltech101, toy"}  # the other is a file of vectors
    by_encoder = grouped(rows, ["encoder"]).items()
    return [Set(titles.get(encoder, "58 classes, CLIP by leave-one-out"), own) for (encoder,), own in by_encoder]


# ---- claims ----------------------------------------------------------------------------------------------------------


def by_shots(points: dict[int, float]) -> str:
    return ", ".join(f"{shots}: {value:+.2f}" for shots, value in points.items())


def by_value(points: dict[float, float]) -> str:
    return ", ".join(f"{value:g}: {accuracy:.2f}" for value, accuracy in points.items())


def above_zero_shot(found: Set) -> Outcome:
    lead = found.lead("tip-adapter", "zero-shot")
    if not lead:
        return None
    return min(lead.values()) > 0, f"points above, by shots: {by_shots(lead)}"


def lead_over_the_probe(found: Set) -> Outcome:
    lead = found.lead("tip-adapter", "linear-probe")
    if not lead:
        return None
    return max(lead, key=lambda shots: lead[shots]) == min(lead), f"points above, by shots: {by_shots(lead)}"


def fine_tuning_gains_more(found: Set) -> Outcome:
    gain = found.lead("tip-adapter-f", "tip-adapter")
    if not gain:
        return None
    grows = all(more > less for less, more in pairwise(gain.values()))
    return min(gain.values()) > 0 and grows, f"points above Tip-Adapter, by shots: {by_shots(gain)}"


def larger_caches(found: Set) -> Outcome:
    sizes = {size: value for size, value in found.variant("cache size ").items() if size <= max(found.shots, default=0)}
    grows = all(more > less for less, more in pairwise(sizes.values()))
    return (grows, f"accuracy in percent by cache size: {by_value(sizes)}") if len(sizes) > 2 else None


def alpha_of_one(found: Set) -> Outcome:
    alphas = found.variant("alpha ")
    if not alphas:
        return None
    return max(
        alphas, key=lambda alpha: alphas[alpha]
    ) == 1, f"accuracy in percent by alpha, beta 5.5: {by_value(alphas)}"


def beta_of_five_and_a_half(found: Set) -> Outcome:
    betas = found.variant("beta ")
    if not betas:
        return None
    return max(betas, key=lambda beta: betas[beta]) == 5.5, f"accuracy in percent by beta, alpha 1: {by_value(betas)}"


def clusters_tighten(found: Set) -> Outcome:
    during = found.by_variant("figure7", "silhouette")
    if not during:
        return None
    before, middle, after = (round(during[name], 3) for name in ("before", "during", "after"))
    return before < middle <= after, f"silhouette of ten classes' keys: {before:.3f}, {middle:.3f}, {after:.3f}"


def fewer_epochs(found: Set) -> Outcome:
    lead = found.lead("tip-adapter-f", "clip-adapter")
    return (min(lead.values()) > 0, f"points above CLIP-Adapter, by shots: {by_shots(lead)}") if lead else None


def prompts_matter_less(found: Set) -> Outcome:
    gains = []
    for method in ("zero-shot", "tip-adapter", "tip-adapter-f"):
        accuracy = found.by_variant("figure6", "accuracy", method)
        if not accuracy:
            return None
        gains.append(100 * abs(accuracy["ensemble"] - accuracy["single prompt"]))
    names, tip, tuned = gains
    numbers = (
        f"points between seven prompts and one: zero-shot {names:.2f}, Tip-Adapter {tip:.2f}, Tip-Adapter-F {tuned:.2f}"
    )
    return names > tip > tuned, numbers


def keys_are_the_part(found: Set) -> Outcome:
    accuracy = {name: 100 * value for name, value in found.by_variant("table6", "accuracy").items()}
    if not accuracy:
        return None
    numbers = ", ".join(f"{name}: {value:.2f}" for name, value in accuracy.items())
    return max(accuracy, key=lambda name: accuracy[name]) == "keys", f"accuracy in percent by what is tuned: {numbers}"


def adapter_costs_little(found: Set) -> Outcome:
    times = {
        method: found.by_variant("table1", "inference_ms", method).get("") for method in ("zero-shot", "tip-adapter")
    }
    names, tip = times.values()
    if names is None or tip is None:
        return None
    return (
        tip < 1.03 * names,
        f"32 photos: {names:.0f} ms by names alone, {tip:.0f} ms: {100 * (tip / names - 1):+.1f} %",
    )


def order_holds(found: Set) -> Outcome:
    methods = ("zero-shot", "clip-adapter", "tip-adapter", "tip-adapter-f")
    accuracy = [found.by_variant("table3", "accuracy", method).get("") for method in methods]
    names, adapter, tip, tuned = (None if value is None else 100 * value for value in accuracy)
    if names is None or adapter is None or tip is None or tuned is None:
        return None
    numbers = f"zero-shot {names:.2f}, CLIP-Adapter {adapter:.2f}, Tip-Adapter {tip:.2f}, Tip-Adapter-F {tuned:.2f}"
    return names < tip < tuned and adapter < tuned, f"accuracy in percent: {numbers}"


#: What the paper says, where, what tells whether it holds, and what that needs and which experiment measures it.
CLAIMS: list[tuple[str, str, Callable[[Set], Outcome], str, str]] = [
    ("Tip-Adapter is above zero-shot CLIP at every number of shots", "Table 2", above_zero_shot, "", "figure5"),
    ("Its lead over the linear probe is largest at 1 shot", "Table 2", lead_over_the_probe, "", "figure5"),
    (
        "Tip-Adapter-F is above Tip-Adapter, and gains more with more shots",
        "Table 2",
        fine_tuning_gains_more,
        "",
        "figure5",
    ),
    (
        "A tenth of the epochs is enough: Tip-Adapter-F is above CLIP-Adapter",
        "Tables 1, 2",
        fewer_epochs,
        "time: 200 epochs",
        "figure5",
    ),
    ("A larger cache helps", "Table 4", larger_caches, "", "table4"),
    ("The best alpha is 1", "Table 4", alpha_of_one, "", "table4"),
    ("The best beta is 5.5", "Table 4", beta_of_five_and_a_half, "", "table4"),
    (
        "Better prompts matter less for better methods",
        "Figure 6",
        prompts_matter_less,
        "photos and a text encoder",
        "figure6",
    ),
    ("Fine-tuning tightens the clusters of the keys", "Figure 7", clusters_tighten, "", "figure7"),
    ("The keys are the part to tune", "Table 6", keys_are_the_part, "photos and an encoder of torch", "table6"),
    ("The adapter costs less than 3 % of the inference time", "Table 1", adapter_costs_little, "photos", "table1"),
    (
        "alpha grows with the gap between a data set and CLIP's training data",
        "Figure 8",
        lambda _: None,
        "eleven data sets",
        "figure8",
    ),
    (
        "Tip-Adapter is above zero-shot, and Tip-Adapter-F above Tip-Adapter and CLIP-Adapter, for every encoder",
        "Table 3",
        order_holds,
        "photos and five encoders",
        "table3",
    ),
    (
        "The cache transfers to other distributions",
        "Table 5",
        lambda _: None,
        "ImageNet-V2 and ImageNet-Sketch",
        "table5",
    ),
]


def verdicts(found: Sequence[Set]) -> Iterator[tuple[list[str], bool, str]]:
    """Each check that a set allows: claim, source and set; whether it holds; the numbers."""
    for claim, source, check, *_ in CLAIMS:
        for own in found:
            if outcome := check(own):
                yield [claim, source, own.title], *outcome


def claims(record: dict[str, Any]) -> str:
    found = [*sets(record), *photo_sets()]
    lines = [[*what, "**holds**" if holds else "**does not**", numbers] for what, holds, numbers in verdicts(found)]
    protocols = "; ".join(f"{own.title}: {own.papers_protocol}" for own in found)
    tested = {claim for (claim, *_), _, _ in verdicts(found)}
    untested = [
        [claim, source, needs, f"`tip-adapter reproduce {name} --data-root DIR`"]
        for claim, source, _, needs, name in CLAIMS
        if claim not in tested
    ]
    return "\n\n".join(
        [
            "What the paper says about order and sign, checked on stored CLIP ViT-B/32 vectors and on [photos](photos.md). A claim about several numbers of shots "
            "holds if it holds at each of them, in the mean of three draws (five for cache sizes; one where a set has no more photos than shots; one training for the clusters). Alpha, "
            f"beta and C are chosen as in the paper's public code, on photos by leave-one-out, scale-free at one shot ({protocols}). None is the paper's "
            "encoder, RN50: a claim that does not hold here may hold there.",
            table(["claim", "in the paper", "set", "here", "numbers"], lines),
            "## Not tested here",
            table(["claim", "in the paper", "needs", "command"], untested),
        ]
    )


# ---- protocols -------------------------------------------------------------------------------------------------------


def protocols(record: dict[str, Any]) -> str:
    pieces = [
        "The same methods on the same draws, by all ways of choosing alpha and beta (of the linear probe: C). `oracle` chooses on the test "
        "photos and is no result, but an upper bound. Test accuracy in percent, mean of three draws.",
        table(["protocol", "chosen on"], [[f"`{name}`", protocol.words] for name, protocol in PROTOCOLS.items()]),
    ]
    for own in sets(record):
        pieces += [
            f"## {own.title}",
            accuracy_table(own),
            "### Without training and without validation photos",
            free_table(own),
        ]
        if epochs := best_epochs(own):
            pieces += ["### The best epoch on the test photos against the last", epochs]
    return "\n\n".join(pieces)


def accuracy_table(own: Set) -> str:
    lines = []
    for method, title in TITLES.items():
        names = sorted({row["protocol"] for row in own.rows if row["method"] == method}, key=list(PROTOCOLS).index)
        for name in names:
            cells = [mean_in_hundredths(own.accuracies(method, shots, name)) for shots in own.shots]
            lines.append([title, f"`{name}`" if len(names) > 1 else "–", *cells])
    return table(["method", "protocol", *map(shots_words, own.shots)], lines)


def free_table(own: Set) -> str:
    """Methods that need nothing but the support, with their distance from Tip-Adapter's upper bound."""
    bound = {shots: own.accuracies("tip-adapter", shots, "oracle") for shots in own.shots}
    lines = []
    for method, name in [
        ("zero-shot", "fixed"),
        *(("tip-adapter", name) for name in WITHOUT_VALIDATION),
        ("gda", "fixed"),
        ("text-offset", "fixed"),
    ]:
        values = {shots: own.accuracies(method, shots, name) for shots in own.shots}
        cells = [
            f"{mean_in_hundredths(values[shots])} ({100 * (mean(values[shots]) - mean(bound[shots])):+.2f})"
            if values[shots]
            else "–"
            for shots in own.shots
        ]
        lines.append([TITLES[method], f"`{name}`" if method == "tip-adapter" else "–", *cells])
    return "In brackets: points from the upper bound of Tip-Adapter, which is chosen on the test photos.\n\n" + table(
        ["method", "protocol", *map(shots_words, own.shots)], lines
    )


def best_epochs(own: Set) -> str:
    """What Tip-Adapter-F would gain by keeping the epoch that is best on the test photos, as the public code does."""
    lines = []
    for shots in own.shots:
        runs = [
            row["epoch_accuracies"]
            for row in own.rows
            if (row["method"], row["shots"]) == ("tip-adapter-f", shots) and row.get("epoch_accuracies")
        ]
        if runs:
            best, last = mean_in_hundredths([max(run) for run in runs]), mean_in_hundredths([run[-1] for run in runs])
            gain = 100 * mean(max(run) - run[-1] for run in runs)
            lines.append([shots_words(shots), last, best, f"{gain:+.2f}"])
    if not lines:
        return ""
    return "Tip-Adapter-F at the alpha and beta of its training.\n\n" + table(
        ["", "last epoch", "best epoch", "points"], lines
    )


def mean_in_hundredths(values: Sequence[float]) -> str:
    return f"{100 * mean(values):.2f}" if values else "–"
