r"""The map of the notebooks in README.md and in the first of them, with the minutes of the run that they show."""

from shared.drawing import source

from megu.figures import markdown
from megu.runs.store import STAGES

MAP = {  # notebook -> (question, scripts of paper_figures)
    "00_prepare": (
        "what does the classifier know, and what would it know had it never seen these images?",
        "`table1_results`, `figure4_time`",
    ),
    "01_entanglement": ("which classes share features, and can that be measured?", "`figure1_entangled_concepts`"),
    "02_perturbing_labels": ("which class is each image pushed to, and who says so?", "`figure3_transition_matrix`"),
    "03_noise_pair": ("what does the network take the noises for?", "`disentanglement`"),
    "04_unlearn": ("what is left of the forgotten class, and what did it cost?", "`table1_results`, `figure4_time`"),
    "05_evaluate": ("how far is each model from the retrained one?", "`table1_results`, `disentanglement`"),
    "06_your_own_model": ("can a class go from a model and photos of someone else?", "deletion report"),
    "A1_guides": (
        "do eight sources and a control agree, does forgetting depend on which is asked?",
        "`figure3_transition_matrix`",
    ),
    "A2_every_method": (
        "which method comes nearest to retraining, and which when?",
        "`comparison`, `disentanglement`, `table1_results`",
    ),
    "A3_one_thing_at_a_time": ("which of the choices that the paper leaves open matter?", "`ablation`"),
    "A4_the_papers_tables": ("do the paper's claims hold on its requests?", "`table1_to_8_paper`, `figure4_time`"),
    "A5_cost": ("what does a run cost in seconds, memory, hours on a GPU?", "`figure4_time`"),
}


def table(data, folder="notebooks/"):
    r"""Markdown: notebook, question, minutes, figures; ``folder``: of the notebooks, from where the map stands."""
    about = source(data)
    seconds = {name: about["stage_seconds"][stage] for stage, name in STAGES.items()}
    rows = []
    for name, (question, figures) in MAP.items():
        minutes = f"{seconds[name] / 60:.1f}" if name in seconds else "-"
        rows.append([f"[{name}]({folder}{name}.ipynb)", question, minutes, figures])
    total = sum(seconds.values()) / 60
    return (
        markdown.table(["notebook", "question", "minutes", "figures, tables (paper_figures)"], rows)
        + f"\n\n{total:.0f} minutes in all, {about['device']}; on other machines they differ.\n"
    )
