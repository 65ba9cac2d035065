"""The negative control of every guide: the composed guide's answers, given to other labels."""

from dataclasses import replace

import numpy as np

from megu.guide.composed import ComposedGuide


class ShuffledGuide(ComposedGuide, source="shuffled", compared=True):
    r"""$s(x, l) = s_{\mathrm{composed}}(x, \pi(l))$ with a fixed permutation $\pi$ that leaves no label in its place.
    Source: A12."""

    def __init__(self, context):
        super().__init__(context)
        order = np.random.default_rng(0).permutation(len(self.class_names))
        names = [self.class_names[k] for k in order]
        self._instead = dict(zip(names, [*names[1:], names[0]], strict=True))
        self.name, self.version = f"{self.name}, shuffled", f"{self.version}, one cycle {''.join(map(str, order[:10]))}"

    def score(self, questions):
        """Raw scores of questions."""
        return super().score([replace(one, label=self._instead.get(one.label, one.label)) for one in questions])
