r"""One request in the form of Table 1 of arXiv 2602.17088, the gaps to retrain, and what the forget images are taken
for (appendix D)."""

import pandas as pd
from shared.drawing import TITLES, main, read, request
from shared.tracked import default_request, of_retrain

from megu.figures import markdown, results
from megu.figures.markdown import number

COLUMNS = {  # metric -> heading; the mode stands in every heading
    "acc_retain_test": "retain test acc. (strict)",
    "acc_forget_train": "forget train acc. (strict)",
    "acc_forget_test": "forget test acc. (strict)",
    "mia_loss_auc": "loss attack AUC (strict)",
    "mia_ssd_member_rate": "SSD member rate (compat)",
}
SHOWN = ["acc_retain_test", "acc_forget_train", "mia_loss_auc", "mia_ssd_member_rate"]


def table(data):
    r"""Markdown: mean ± half-width of the 95 % t-interval, gap to retrain in brackets, relative time."""
    summary, timings, about = default_request(data)
    share, rows = of_retrain(timings), []
    for name, part in summary.groupby("method", sort=False):
        cells = [TITLES[name]]
        for row in part.set_index("metric").loc[list(COLUMNS)].itertuples():
            digits = 3 if row.unit == "share" else 1
            gap = "" if name == "retrain" or pd.isna(row.mean) else f" [{row.gap:+.{digits}f}]"
            cells.append(number(row.mean, row.half_width, digits, missing="n/a") + gap)
        rows.append([*cells, "-" if name == "original" else f"{share[name]:.1f}"])
    made = request(about, f"{about['retain_images']} retain images")
    return (
        markdown.table(["method", *COLUMNS.values(), "time, % of retrain"], rows) + "\n\n"
        f"`{about['command']}`, {made}. Accuracy and member rate in percent;"
        f" {markdown.interval(about['seeds'], 'mean')}; in brackets the gap to the retrain of the same seed, which is"
        " the goal.\n"
    )


def gaps(data):
    """To retrain, with the noise floor of retraining itself."""
    return results.gaps(default_request(data)[0], TITLES, SHOWN)


def predictions(data):
    """Mean over the seeds."""
    found = read(data, "predictions")
    mean = found.groupby(["method", "label"], sort=False, as_index=False)["share"].mean()
    return results.flow(mean, {name: TITLES[name] for name in found["method"].unique()})


if __name__ == "__main__":
    main(table1_results=table, gaps=gaps, predictions=predictions)
