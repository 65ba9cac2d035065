r"""What a notebook claims: a sentence with a value and a bound that holds, fails, or was not asked of this request."""

import operator
from dataclasses import dataclass

from megu.settings.errors import StageError

RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Claim:
    r"""One sentence and the comparison that decides it; see `invariant` and `finding`, which make it."""

    sentence: str
    value: float | bool | None
    relation: str
    bound: float | bool
    kind: str
    asked: bool = True

    @property
    def state(self):
        r""" "holds", "fails" or "not asked here"; a value that is not a number fails."""
        if not self.asked:
            return "not asked here"
        return "holds" if self.value is not None and RELATIONS[self.relation](self.value, self.bound) else "fails"

    def __str__(self):
        if isinstance(self.bound, bool):
            return f"{self.state}: {self.sentence}"
        value = "none" if self.value is None else f"{self.value:.3g}"
        return f"{self.state}: {self.sentence} [{value}, asked {self.relation} {self.bound:.3g}]"

    def record(self):
        r"""The claim for a manifest, with its state; NaN, which JSON has not, as None."""
        value = self.value if isinstance(self.value, bool) or self.value == self.value else None
        return {
            "sentence": self.sentence,
            "value": value,
            "relation": self.relation,
            "bound": self.bound,
            "kind": self.kind,
            "state": self.state,
        }


def invariant(sentence, value, relation="==", bound=True, asked=True):
    r"""What must be so whatever a method does (shapes, sums, identity of bits): where it fails, the run stops."""
    return _claim(sentence, value, relation, bound, "invariant", asked)


def finding(sentence, value, relation="==", bound=True, asked=True):
    r"""What a run may find or not: it is recorded and shown in either case, and stops nothing.

    Args:
        sentence: what is claimed, e.g. "forgotten test images that MeGU names right, %".
        value: number that decides it, or a bool.
        relation: one of `RELATIONS`, between value and bound.
        bound: number.
        asked: whether the claim is about a request such as this one.
    """
    return _claim(sentence, value, relation, bound, "finding", asked)


def _claim(sentence, value, relation, bound, kind, asked):
    value = None if value is None else bool(value) if isinstance(bound, bool) else float(value)
    return Claim(sentence, value, relation, bound, kind, bool(asked))


def statements(claims):
    r"""Lines that say which claims hold and which fail; what was not asked is no statement.

    >>> forgotten = finding("forgotten images named right, %", 42.0, "<=", 2)
    >>> asked_elsewhere = finding("share of the time of retraining", 0.1, "<=", 0.15, asked=False)
    >>> print(*statements([forgotten, asked_elsewhere]), sep="\n")
    fails: forgotten images named right, % [42, asked <= 2]

    Raises: StageError where an invariant fails.
    """
    broken = [str(claim) for claim in claims if claim.kind == "invariant" and claim.state == "fails"]
    if broken:
        raise StageError(f"this must hold whatever the request and the method: {'; '.join(broken)}")
    return [str(claim) for claim in claims if claim.asked]
