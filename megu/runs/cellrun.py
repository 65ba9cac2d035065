r"""What the models of one cell of a grid share, and how one of them is measured."""

from pathlib import Path

from megu.measure.metrics import observe
from megu.runs.experiment import Experiment, request
from megu.settings.files import digest


class CellRun(Experiment):
    r"""What the models of one cell share.  Originals and retrained models lie in the shared directory; unlearned models
    are measured and not kept."""

    def _directory(self, about, run_dir):
        return super()._directory(
            about,
            Path(run_dir)
            / f"{self.settings.data.name}-{self.settings.arch}-{request(self.settings)}-{digest(about)[:6]}",
        )

    def once_for_all(self, name, make, save, load):
        """See `megu.runs.making.MakesModels.once_for_all`; no copy in the run."""
        return self.shared.once(name, make, save, load)

    def _of_request(self, name, make, save, load):
        return self.shared.once(f"{self.split.digest()}/{name}", make, save, load)

    def unlearned(self, name, seed):
        """See `megu.runs.making.MakesModels.unlearned`."""
        return (
            self._model(name, seed, *self._call(name, seed), self._of_request)
            if name == "retrain"
            else super().unlearned(name, seed)
        )

    def measured(self, name, seed, repeat):
        r"""(tidy rows as of `megu.measure.metrics.rows`, facts: seconds by part) of one model."""
        if name in ("original", "retrain"):
            found = self._measured(name, seed, 0, self.seen(name, seed))
            file = f"models/{name}-{seed}.safetensors"
            facts = self.shared.manifest["artefacts"][file if name == "original" else f"{self.split.digest()}/{file}"]
        else:
            model, facts = self._timed(*self._call(name, seed, repeat))
            found = self._measured(name, seed, repeat, observe(model, self.images, self.split))
        return found, {"seconds": facts["seconds"]}

    def __reduce__(self):
        raise TypeError("a cell's run is opened by its grid in each process: send the spec")
