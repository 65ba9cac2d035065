r"""Every unlearning method: one file for each, named here once, in the order of tables and figures.

Settings were tuned on validation images of seeds 100-102 (``paper_figures/data/tuning.csv``) and measured on seeds 0-2
(``comparison.csv``).  All methods share one retain sample.
"""

from importlib import import_module

from megu.methods.registry import ANY, METHODS, Method, check, method, method_settings  # noqa: F401

_FILES = "references finetune head_only neggrad amnesiac bad_teacher unsir ssd scrub salun projection boundary_shrink"
for _file in (*_FILES.split(), "l1_sparse", "megu"):
    import_module(f"megu.methods.{_file}")
