"""A request's report on a new model that is there already: the last of several, or one of another program."""

from megu.core.device import usual_torch
from megu.core.loading import check_and_copy, read_model
from megu.own import report
from megu.own.findings import measure
from megu.own.request import collect_notices
from megu.own.tuning import Trial
from megu.runs.store import in_memory
from megu.settings.errors import SettingsError


@usual_torch()
def recheck(checked, new, folder=None) -> dict:
    """The report, see `megu.own.report.compose`, on ``new`` against the model of a request; nothing is trained.

    Args:
        checked: `megu.own.request.CheckedRequest`.  new: an ``nn.Module``, or weights of the request's ``arch``.
        folder: for report.html, report.json and SHA256SUMS.
    Raises: SettingsError where ``new`` has other classes, or the reference would have to be trained.
    """
    if checked.request.retrain:
        raise SettingsError("retrain trains a reference, and here nothing is trained: give reference, or none")
    images, training = checked.images, {"seconds": {}, "history": {}, "search": None}
    with collect_notices(checked.notices):
        if checked.request.arch is not None:
            new = read_model(new, checked.request.arch, images.num_classes, images.shape[1:])
        new = check_and_copy(new, images, "the model to check")
        found = measure(checked, in_memory(), new, None)
    facts = report.compose(checked, new, None, training | {"check": Trial(checked, None).look(new)}, found)
    facts["done"] |= {"method": "check", "title": "none: the new model was given", "settings": {}}
    return facts if folder is None else report.write(facts, folder, [])
