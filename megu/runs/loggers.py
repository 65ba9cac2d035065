"""Where the numbers of a call go, besides its report: a CSV file, TensorBoard, W&B or MLflow."""

import csv
import time
from pathlib import Path

from megu.settings.errors import SettingsError
from megu.settings.extras import extra
from megu.settings.files import writing
from megu.settings.progress import Callback
from megu.settings.values import closest


class Logger(Callback):
    """Losses by epoch, and at the end accuracies, attacks and seconds; no image and no name of one.

    A logger of your own says where `scalar` puts a number, and is given among ``callbacks``.
    """

    def scalar(self, name: str, value: float, step: int):
        """One number; ``name`` has parts with slashes, ``step`` is an epoch or 0."""
        raise NotImplementedError

    def close(self):
        """The call has ended, well or not."""

    def on_epoch(self, training, epoch, values):
        """See `Callback`."""
        for name, value in values.items():
            self.scalar(f"{training}/{name}", value, epoch)

    def on_end(self, result):
        """See `Callback`."""
        for row in result.report["accuracy"]:
            self.scalar(f"accuracy/{row['part']}/{row['model']}", row["percent"], 0)
        for row in result.report["attacks"]:
            self.scalar(f"attack/{row['attack']}/{row['model']}", row["auc"], 0)
        for stage, seconds in result.seconds.items():
            self.scalar(f"seconds/{stage}", seconds, 0)


class CsvLogger(Logger):
    """``log.csv`` in the folder: UTC in seconds since 1970, name, step, value; a call that goes on appends."""

    def __init__(self, out):
        self.path = _folder(out, "csv") / "log.csv"

    def scalar(self, name, value, step):
        """See `Logger`."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                if not file.tell():
                    rows.writerow(["time", "name", "step", "value"])
                rows.writerow([f"{time.time():.3f}", name, step, f"{value:.9g}"])


class TensorBoardLogger(Logger):
    """Event files in the folder ``tensorboard``."""

    def __init__(self, out):
        self.path, self._writer = _folder(out, "tensorboard") / "tensorboard", None
        with extra("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (an extra)
        self._open = SummaryWriter

    def scalar(self, name, value, step):
        """See `Logger`."""
        self._writer = self._writer or self._open(str(self.path))
        self._writer.add_scalar(name, value, step)

    def close(self):
        """See `Logger`."""
        if self._writer:
            self._writer.close()


class WandbLogger(Logger):
    """The run of W&B that is open, or one of its own in the project ``megu``."""

    def __init__(self, out):
        with extra("wandb"):
            import wandb  # noqa: PLC0415  (an extra)
        self._wandb, self._own = wandb, None

    def scalar(self, name, value, step):
        """See `Logger`."""
        if self._wandb.run is None:
            self._own = self._wandb.init(project="megu")
        self._wandb.log({name: value, "epoch": step})

    def close(self):
        """See `Logger`."""
        if self._own:
            self._own.finish()


class MlflowLogger(Logger):
    """The run of MLflow that is open, or one of its own."""

    def __init__(self, out):
        with extra("mlflow"):
            import mlflow  # noqa: PLC0415  (an extra)
        self._mlflow, self._own = mlflow, False

    def scalar(self, name, value, step):
        """See `Logger`."""
        if self._mlflow.active_run() is None:
            self._own = bool(self._mlflow.start_run())
        self._mlflow.log_metric(name, value, step=step)

    def close(self):
        """See `Logger`."""
        if self._own:
            self._mlflow.end_run()


LOGGERS = {"csv": CsvLogger, "tensorboard": TensorBoardLogger, "wandb": WandbLogger, "mlflow": MlflowLogger}


def loggers(name: str | Logger | None, out: Path | None) -> list[Logger]:
    """What ``log`` means: None is ``csv`` where there is a folder; a `Logger` is itself.

    Raises: SettingsError for an unknown name or a missing folder, MissingExtraError where a package is missing.
    """
    if name is None:
        return [CsvLogger(out)] if out else []
    if isinstance(name, Logger):
        return [name]
    if not isinstance(name, str) or name not in LOGGERS:
        raise SettingsError(closest(name, LOGGERS, "log"))
    return [LOGGERS[name](out)]


def _folder(out, name):
    if out is None:
        raise SettingsError(f"log {name!r} is written into out, and none is given: name a folder")
    return Path(out)
