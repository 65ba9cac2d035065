r"""Notebooks run one after another by papermill; what is sealed is skipped."""

import contextlib
import io
import os
import runpy
import sys
import time
from unittest import mock

from megu.runs.store import STAGES
from megu.settings.errors import NotebookError
from megu.settings.extras import extra
from megu.settings.files import shipped
from megu.settings.machine import environment, without_machine

with extra("notebooks"):
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError


def run_notebooks(lab, say):
    r"""Run notebooks 00-05 on a `megu.runs.experiment.Experiment`; ``say``: function of one line of text.

    Raises: NotebookError where one fails; SettingsError where they are not here.
    """
    notebooks, settings, run = shipped("notebooks"), lab.settings, lab.run
    parameters = {"profile": settings.profile, "seed": settings.seed, "run_dir": ""}
    parameters["overrides"] = without_machine(lab.overrides)
    # so that no executed notebook holds a path or a bar
    variables = {**environment(settings), "MEGU_RUN_DIR": str(run.path.resolve()), "TQDM_DISABLE": "1"}
    for i, (stage, name) in enumerate(STAGES.items(), 1):
        head, out = f"[{i}/{len(STAGES)}] {name}", run.path / "notebooks" / f"{name}.ipynb"
        if run.sealed(stage) and out.exists():
            say(f"{head}: sealed, skipped")
            continue
        say(f"{head}: running ...")
        start = time.perf_counter()
        with mock.patch.dict(os.environ, variables):
            _execute(notebooks / out.name, out, parameters)
        say(f"{head}: done in {time.perf_counter() - start:.0f} s")


def _execute(source, out, parameters):
    out.parent.mkdir(exist_ok=True, parents=True)
    how = {"kernel_name": "python3", "progress_bar": False, "extra_arguments": ["--log-level=40"]}
    try:
        papermill.execute_notebook(source, out, parameters, cwd=os.getcwd(), **how)
    except PapermillExecutionError as error:
        last = (error.evalue.strip().splitlines() or ["no message"])[-1]
        raise NotebookError(f"{source.stem} failed: {error.ename}: {last} (see the run's notebooks/)") from None
    finally:
        if out.exists():
            notebook = nbformat.read(out, as_version=4)
            notebook.metadata.pop("papermill", None)  # holds absolute paths
            nbformat.write(notebook, out)


def build_figures(run, say):
    r"""Collect the tables of a finished `RunDirectory` and draw all of paper_figures/ into it.

    Raises: as `run_script`.
    """
    scripts, out = shipped("paper_figures"), run.path / "figures"
    drawn = sorted(path for path in scripts.glob("*.py") if path.stem not in ("collect", "documents"))
    for script in (scripts / "collect.py", *drawn):
        arguments = (run.path, out / "data") if script.stem == "collect" else (out / "data", out)
        for line in run_script(script, *arguments):
            say(f"figure: {os.path.relpath(line)}")


def run_script(script, *arguments):
    r"""The lines that one script of paper_figures prints, in this process, as a new one would first import torch.

    Raises: NotebookError where it fails.
    """
    argv, path, printed = [str(script), *map(str, arguments)], [str(script.parent), *sys.path], io.StringIO()
    with mock.patch.multiple(sys, argv=argv, path=path), contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except (Exception, SystemExit) as error:
            raise NotebookError(f"paper_figures/{script.name} failed: {error}") from error
    return printed.getvalue().splitlines()
