r"""Machine unlearning guided by a multimodal model: a reference reproduction of MeGU (arXiv 2602.17088).

`megu.unlearn` makes your own classifier forget, `megu.compare` does so by every method that fits.  The rooms, in the
order of the paper:

    perturbing_labels  from a guide's answers to a label for each forget image (eq. 4-8)
    noise_pair         the positive-negative noise pair (eq. 9-11)
    methods            MeGU (Algorithm 1, eq. 12) and what it is compared with
    guide              who says which concepts are alike
    measure            entangled patterns; metrics, attacks, distances
    core               device, models, training, splits
    datasets           where the images come from
    settings           settings, profiles, errors
    runs               a run, studies over many, the processes that carry them out
    own                your own model: request, verdict, report
    figures            tables to figures
    cost               what a run costs
    cli                the command line

Imports go one way, from the command line down: cli, cost, own, runs, measure, methods, then guide, noise_pair and
    perturbing_labels (which do not know each other), core, datasets, settings; figures know tables only.
"""

__version__ = "0.2.0"


def __getattr__(name):
    # `import megu` stays light: torch takes seconds.
    if name == "unlearn":
        from megu.own.unlearn import unlearn  # noqa: PLC0415

        return unlearn
    if name == "compare":
        from megu.own.compare import compare  # noqa: PLC0415

        return compare
    raise AttributeError(f"module 'megu' has no attribute {name!r}")
