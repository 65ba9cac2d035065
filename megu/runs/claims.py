r"""What a notebook claims: a sentence, a value and a bound, which holds, fails or was not asked of this request."""

import operator
from dataclasses import dataclass
from functools import partial

from megu.settings.errors import StageError

RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


@dataclass
class Claim:
    r"""One sentence and the comparison that decides it.

    Attributes:
        kind: "invariant", without which the run stops, or "finding".
        relation: in `RELATIONS`, between value and bound.
        asked: whether it is about a request such as this one.
    """

    kind: str
    sentence: str
    value: float | bool | None
    relation: str = "=="
    bound: float | bool = True
    asked: bool = True

    def __post_init__(self):
        if self.value is not None:
            self.value = bool(self.value) if isinstance(self.bound, bool) else float(self.value)

    @property
    def state(self) -> str:
        r""" "holds", "fails" (also a value None or NaN) or "not asked here"."""
        if not self.asked:
            return "not asked here"
        return "holds" if self.value is not None and RELATIONS[self.relation](self.value, self.bound) else "fails"

    def __str__(self):
        if isinstance(self.bound, bool):
            return f"{self.state}: {self.sentence}"
        value, bound = "none", f"{self.bound:.3g}"
        if self.value is not None:
            compare = RELATIONS[self.relation]
            for digits in range(3, 18):  # until the rounded numbers say the same as the numbers
                value, bound = (f"{number:.{digits}g}" for number in (self.value, self.bound))
                if compare(float(value), float(bound)) == compare(self.value, self.bound):
                    break
        return f"{self.state}: {self.sentence} [{value}, bound {self.relation} {bound}]"

    def record(self) -> dict:
        r"""The claim for a manifest, with its state; NaN, which JSON has not, as None."""
        out = vars(self) | {"state": self.state, "value": self.value if self.value == self.value else None}
        del out["asked"]
        return out


invariant, finding = partial(Claim, "invariant"), partial(Claim, "finding")


def statements(claims: list[Claim]) -> list[str]:
    r"""Lines that say which of the claims that were asked hold or fail.

    >>> print(*statements([finding("forgotten images named right, %", 42.0, "<=", 2)]))
    fails: forgotten images named right, % [42, bound <= 2]

    Raises: StageError where an invariant fails.
    """
    broken = [str(claim) for claim in claims if claim.kind == "invariant" and claim.state == "fails"]
    if broken:
        raise StageError(f"this must always hold: {'; '.join(broken)}")
    return [str(claim) for claim in claims if claim.asked]
