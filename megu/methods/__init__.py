r"""Every unlearning method: one file for each, named here once, in the order of tables and figures."""

from importlib import import_module

from megu.methods.registry import ANY, METHODS, Method, check, method, method_settings

__all__ = ["ANY", "METHODS", "Method", "check", "method", "method_settings"]

for _file in (
    *("original", "retrain", "retrain_head"),  # what methods are compared with
    *("finetune", "neggrad", "amnesiac", "bad_teacher", "unsir", "ssd", "scrub", "salun", "projection"),
    *("boundary_shrink", "l1_sparse", "megu"),
):
    import_module(f"megu.methods.{_file}")
