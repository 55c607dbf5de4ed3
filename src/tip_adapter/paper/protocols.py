"""Protocols: where alpha and beta, or what else a method chooses, come from. Every result names one."""

from __future__ import annotations

from dataclasses import dataclass

from tip_adapter.methods import tuning

#: The paper's pair, for every encoder; shown as what it is.
PAPERS_PAIR = (1.0, 5.5)


@dataclass(frozen=True)
class Protocol:
    """One way to choose.

    Parameters
    ----------
    words : what it is, in a few words
    rule : the product's rule, a key of `tuning.RULES`
    sees : ``support``, ``few``, ``validation`` or ``test``: what it may use besides the support
    """

    words: str
    rule: str
    sees: str = "support"

    @property
    def upper_bound(self) -> bool:
        """Whether it looks at the test photos."""
        return self.sees == "test"


PROTOCOLS = {
    "fixed": Protocol(
        "given numbers, by default the paper's alpha 1 and beta 5.5; the linear probe's C is 1", tuning.FIXED
    ),
    "scale-free": Protocol("the support's own units, no search; the linear probe's C is 1", tuning.SCALE_FREE),
    "leave-one-out": Protocol("each support photo scored without itself", tuning.LEAVE_ONE_OUT),
    "few-validation": Protocol(
        "as many validation photos as shots, at most four a class", tuning.FEW_VALIDATION, "few"
    ),
    "full-validation": Protocol("the whole validation split", tuning.VALIDATION, "validation"),
    "oracle": Protocol("chosen on the test photos: an upper bound, no result", tuning.VALIDATION, "test"),
}


def protocols_for(*, chooses: bool, shots: int, has_validation: bool) -> tuple[str, ...]:
    """The protocols of a method where none is asked for: the public code's, and one that needs no other images.

    Parameters
    ----------
    chooses : whether the method has something to choose
    shots : int
    has_validation : whether the data set has a validation split
    """
    if not chooses or not shots:
        return ("fixed",)
    public = "full-validation" if has_validation else "oracle"
    return public, "scale-free" if shots == 1 else "leave-one-out"
