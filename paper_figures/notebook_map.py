r"""The map of the notebooks in README.md, with the minutes of the run that they were executed on."""

from tracked import source

from megu.runs.store import STAGES

MAP = {  # notebook -> (question, figures and tables)
    "00_prepare": ("what does the classifier know, and what would it know had it never seen these images?", "table 1"),
    "01_entanglement": ("which classes share features, and can that be measured?", "figures 1, 11, 12, 16"),
    "02_perturbing_labels": ("which class is each image pushed to, and who says so?", "figures 3, 7, 13, 21"),
    "03_noise_pair": ("what does the network take the noises for?", "figure 17"),
    "04_unlearn": ("what is left of the forgotten class, and what did it cost?", "figure 4"),
    "05_evaluate": ("how far is each model from the retrained one?", "figures 5, 6, 8 to 10, 14, 15"),
    "06_your_own_model": ("can a class go from a model and photos of someone else?", "deletion report"),
    "07_cost": ("what does a run cost in seconds, memory, hours on a GPU?", "figure 20"),
}


def table(data):
    r"""Markdown: notebook, question, minutes, figures."""
    about = source(data, "source")
    seconds = {name: about["stage_seconds"][stage] for stage, name in STAGES.items()}
    lines = ["| notebook | question | minutes | figures, tables |", "|---|---|---|---|"]
    for name, (question, figures) in MAP.items():
        minutes = f"{seconds[name] / 60:.1f}" if name in seconds else "-"
        lines.append(f"| [{name}](notebooks/{name}.ipynb) | {question} | {minutes} | {figures} |")
    total = sum(seconds.values()) / 60
    return (
        "\n".join([*lines, "", f"{total:.0f} minutes in all, {about['device']}; on other machines they differ."]) + "\n"
    )
