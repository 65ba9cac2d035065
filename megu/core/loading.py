r"""A classifier that a user brings: checked before any work, never altered."""

import logging
import math
import re
from contextlib import suppress

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from megu.core.adapted import adapted, copy_of, tensors, trainable, unwrapped
from megu.core.device import generator, seeded
from megu.core.models import asked, refilled
from megu.core.splits import some
from megu.core.train import predict
from megu.datasets.preparations import other_preparations
from megu.settings.errors import SettingsError, why
from megu.settings.files import hash_bytes

_LOG = logging.getLogger("megu")
_CHECK = "normalise, size and the order of the classes"
_TRIED, _AT_FIRST, _AT_LAST = 200, 50, 3  # images that are prepared in other ways; in every way; ways for all of them
_NEAR, _FAR, _LEARNT = 0.03, 0.1, 0.95  # in shares of images: what is said, may be refused, was trained on
_SURELY, _KNOWN, _FEW = 3.0, 0.8, 20  # standard deviations of a difference, as some 25 ways are tried; share; images


def weights_digest(model) -> str:
    r"""SHA-256 of a model's tensors in the order of ``state_dict``.

    Of each the UTF-8 of ``name dtype shape``, e.g. ``head.bias torch.float32 (10,)``, then its values, row by row as
    they lie in memory (little-endian).
    """
    parts = []
    for name, tensor in tensors(model).items():
        bits = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
        parts += [f"{name} {tensor.dtype} {tuple(tensor.shape)}", bits.numpy()]
    return hash_bytes(*parts)


def copied(model, what) -> nn.Module:
    r"""A copy of what `unwrapped` gives, in float32.  Raises: SettingsError where it is none, or cannot be copied."""
    if isinstance(model, torch.jit.ScriptModule):
        remedy = "give the nn.Module that it was made of, with its weights (scripted.state_dict() has them)"
        raise SettingsError(f"{what} is TorchScript, whose layers cannot be trained one by one: {remedy}")
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise SettingsError(f"{what} is a {kind}: give a torch.nn.Module that maps images to logits")
    odd = [(name, type(m)) for name, m in model.named_modules() if ".quantized." in f"{type(m).__module__}."]
    odd += [(name, type(w)) for name, w in tensors(model).items() if type(w).__module__.partition(".")[0] != "torch"]
    for name, kind in odd:  # torchao's layers are usual ones, which hold tensors of its own
        remedy = "which cannot be trained: give the model that it was made of"
        raise SettingsError(f"{what} has quantised layers ({name}: {kind.__name__}), {remedy}")
    for name, tensor in tensors(model).items():
        if is_lazy(tensor) or tensor.is_meta:
            raise SettingsError(f"{what}: {name} has no values yet: load its weights, and run lazy layers once")
    try:
        copy = copy_of(unwrapped(model))
        if kinds := {one.dtype for one in tensors(copy).values() if one.is_floating_point()} - {torch.float32}:
            told = "%s has weights in %s: it is worked on, and given back, in float32"
            _LOG.warning(told, what, ", ".join(sorted(map(str, kinds))))
        own = {one.data_ptr() for one in tensors(model).values()} - {0}
        if shared := [name for name, one in tensors(copy).items() if one.data_ptr() in own]:
            raise TypeError(f"a copy shares {shared[0]} with it: see __deepcopy__")
        return copy.float()
    except Exception as error:  # whatever a foreign module may hold
        remedy = "give one that copy.deepcopy can copy, and run lazy layers once"
        raise SettingsError(f"{what} cannot be copied ({why(error)}): {remedy}") from None


def check_and_copy(model, images, what="model", batch=0) -> nn.Module:
    r"""A copy to work on, in eval mode, which gives logits of ``batch`` images at once, see `megu.core.adapted`.

    Raises: SettingsError where the model is none, or weights or logits are not finite or not of the classes.
    """

    def refuse(wrong, why):
        if wrong:
            raise SettingsError(f"{what}{why}")

    copy = copied(model, what).to(images.x.device)
    own = [weight for _, weight in nn.Module.named_parameters(copy)]
    refuse([*map(id, copy.parameters())] != [*map(id, own)], ".parameters() is unlike torch's: let it give all weights")
    weights = {*dict(copy.named_parameters(remove_duplicate=False))}
    for name, tensor in tensors(copy).items():
        broken = int((~tensor.isfinite()).sum()) if name in weights else 0  # a mask may hold infinities
        refuse(broken, f": {name} has {broken} values that are no numbers (NaN or infinite): give weights that work")
    refuse(not own, " has no weights that could forget: give a network that was trained")
    refuse(not trainable(copy), " has frozen weights only: set requires_grad to True where they may change")
    try:
        copy = adapted(copy, images.few(), images.num_classes, what)
    except SettingsError:
        raise
    except Exception as error:  # whatever a foreign forward() may raise
        remedy = "check size and channels; forward takes the images alone, in float32"
        raise SettingsError(f"{what} takes no images of shape {images.shape} ({why(error)}): {remedy}") from None
    copy.zero_grad(set_to_none=True)
    _check_weights_count(copy_of(copy), images.few()[:1], what)
    if batch:
        with suppress(torch.OutOfMemoryError), torch.no_grad():  # that is met by smaller batches
            asked(copy, images.few(batch), what)
    return copy


@torch.no_grad()
def _check_weights_count(model, x, what):
    """Raises SettingsError where other weights that are loaded change not all that they should."""

    def says(training, draw="look"):
        model.train(training)
        for module in model.modules():  # one image: batch normalisation uses what it knows
            module.training &= not re.search("drop|stochastic", type(module).__name__, re.I)
        with seeded(generator(0, draw)), torch.set_grad_enabled(training):  # which a forward() may ask for
            return model(x.clone()).detach().double().log_softmax(1)

    def differ():
        one, other = says(False), says(True)
        return not torch.allclose(one, other, 0.01, 0.01 * one.abs().max().item(), equal_nan=True)

    state = {name: value.clone() if isinstance(value, Tensor) else value for name, value in model.state_dict().items()}
    weights = model.named_parameters(remove_duplicate=False)
    weights = [name for name, weight in weights if name in state and weight.is_floating_point()]
    draws = map(str, range(8))  # as of blocks that are left out at random
    by_mode = differ() or any(not says(True).equal(says(True, draw)) for draw in draws)
    try:
        refilled(model.eval(), state | (moved := {name: 1.1 * state[name] + 1e-3 for name in weights}))
    except Exception as error:  # whatever a foreign method may raise
        raise SettingsError(f"{what}.load_state_dict does not take what state_dict() gives ({why(error)})") from None
    if passed := [k for k, value in moved.items() if not torch.allclose(model.get_parameter(k), value, 1e-3, 1e-5)]:
        told = f"{what}.load_state_dict passes over {len(passed)} of its weights ({', '.join(passed[:3])})"
        raise SettingsError(f"{told}, so that no new model could be read: let it load all that state_dict() gives")
    if not by_mode and differ():
        told = f"{what} answers in eval mode by something that it keeps of its weights as they were"
        raise SettingsError(f"{told}: let it be made anew, e.g. in train(), when they change")


def check_accuracy(model, images, index: Int64[Tensor, " n"], check=_CHECK, unseen: Int64[Tensor, " m"] | None = None):
    r"""Share of a sample of training images that the model names right.

    Args: check: what to look at where that is no better than chance.  unseen: images that it was not trained on.
    Raises: SettingsError where that is no better than chance, and low; where training images (but of classes that the
        model may have been made to forget), or fewer unseen ones than these, are named right far more often when
        prepared in another way; and where unseen ones are far more often.
    """
    index = some(index)
    named, y = _named(model, images, index)
    share, limit, chance = _share(named, y), *_chance(named, y)
    told = f"the model names {100 * share:.0f} % of {len(index)} training images right"
    least, also = _share(predict(model, images, index).argmin(1), y) if share < chance else 0.0, ""
    if least > max(limit, share + _FAR):
        also = f"; the smallest output is right for {100 * least:.0f} %: of distances let forward return the negatives"
    if other := better_prepared(model, images, index, named):
        few = [k for k in y.unique().tolist() if 2 * _share(named[y == k], y[y == k]) < share]  # perhaps forgotten
        known, names = ~torch.isin(y, y.new_tensor(few)), ", ".join(images.classes[k] for k in few[:6])
        if 2 * len(few) >= len(y.unique()) or better_prepared(model, images, index[known], named[known]):
            raise SettingsError(f"{told}, but {other}: prepare them as in training; if they are, train it on{also}")
        _LOG.warning(f"{told}, few of {names}, but {other}: prepare them so, or forget these once more")
    if share <= limit:
        told += f" ({100 * chance:.0f} % by chance)"
        if share - chance < 1 - share:
            raise SettingsError(f"{told}: check {check}{also}")
        _LOG.warning(f"{told}: these are too few to tell if they are prepared as in training; give more if you can")
    elif share < _KNOWN:
        _LOG.warning(f"{told}: if it named more in training, prepare them as there (size, part, colours, normalise)")
    if unseen is not None:
        _check_unseen(model, images, some(unseen), index, named)
    return share


def _check_unseen(model, images, unseen, index, named):
    # Compared are images of the same classes, which a model may know better or worse than others.
    known, labels = (named == images.y[index]).double(), images.y[index]
    if len(unseen := unseen[torch.isin(images.y[unseen], labels)]) < _FEW:
        return
    now, y = _named(model, images, unseen)
    share, limit, chance = _share(now, y), *_chance(named, y)
    usual = sum(known[labels == k].mean().item() * (y == k).double().mean().item() for k in y.unique())
    told = f"the model names {100 * share:.0f} % of {len(y)} test images right"
    if usual - share >= _FAR and (other := better_prepared(model, images, unseen, now, index)):
        raise SettingsError(f"{told}, but {other}: prepare them as the training images are")
    if share <= limit:
        asked = "are they prepared (size, normalisation) and their classes numbered as those of training images?"
        _LOG.warning(f"{told} ({100 * chance:.0f} % by chance): {asked}")
    both, sizes = (share * len(y) + usual * len(known)) / (len(y) + len(known)), 1 / len(y) + 1 / len(known)
    if share - usual > max(_NEAR, _SURELY * (max(0.0, both * (1 - both)) * sizes) ** 0.5):
        said = f"{told}, {100 * usual:.0f} % of training images of these classes: are they exchanged, or labels wrong?"
        if share - usual >= _FAR and share >= _LEARNT:
            raise SettingsError(f"{said} Give images it has not seen, or none")
        _LOG.warning(said)


def better_prepared(
    model, images, index: Int64[Tensor, " n"], named: Int64[Tensor, " n"], known=None, above=0.0
) -> str | None:
    r"""How many images of a sample are named right in another preparation, in words; None where not far more than as
    given, or than ``above``, are, or where it suits ``known`` ones, too.  What is less sure is said.

    Args: index: the first 50 are tried, and where they look best, the first 200.  named: what the images are named as
        given.  known: index of training images, beside which the others should be prepared.
    """
    index, named = index[:_TRIED], named[:_TRIED]
    y = images.y[index]
    right, share, best, how = named == y, _share(named, y), 0.0, None
    if 1 - share < _NEAR:
        return None
    few, like = images.only(index), None if known is None else images.x[known]
    index, found = torch.arange(len(index), device=index.device), {}
    for place, (_, other) in enumerate(other_preparations(few, like)):
        with suppress(Exception):  # a network may take one size only
            found[place] = _share(*_named(model, other, index[:_AT_FIRST], tried=True))
    last = sorted(found, key=lambda place: -found[place])[:_AT_LAST]
    ways = enumerate(other_preparations(few, like))  # made anew: all together would be large
    kept = {place: way for place, way in ways if place in last}
    for name, other in map(kept.get, last):
        named, _ = _named(model, other, index, tried=True)
        now, differ = _share(named, y), ((named == y) != right).double().mean().item()
        more = now - share
        if now > max(_chance(named, y)[0], above) and more > max(best, _SURELY * (differ / len(index)) ** 0.5):
            best, how = more, name
    said = f"{100 * (share + best):.0f} % of {len(index)} of them {how}"
    surely = best >= max(_FAR, (1 - share) / 2)  # half of what is wrong is right then
    if surely and known is not None and not images.x.is_floating_point():  # a way that suits both tells nothing
        known = known[:_TRIED]
        trained = dict(other_preparations(images.only(known))).get(how)
        now = trained and _share(*_named(model, trained, torch.arange(len(known), device=known.device), tried=True))
        surely = not now or now < _share(*_named(model, images, known)) - _NEAR
    if how and _NEAR <= best and not surely:
        _LOG.warning(f"the model names {100 * share:.0f} % of {len(index)} images right, {said}: was it trained so?")
    return said if surely else None


def _named(model, images, index, tried=False):
    """What each image is named, and its class."""
    logits, y = predict(model, images, index), images.y[index]
    if (wrong := int((~logits.isfinite()).any(1).sum())) and not tried:
        what = f"the model gives logits that are no numbers (NaN or infinite) for {wrong} of {len(y)} images"
        raise SettingsError(f"{what}: mend it, or leave such images out (of one colour?)")
    return logits.argmax(1), y


def _share(named, y):
    return (named == y).double().mean().item()


def _chance(named, y):
    """Two standard deviations above what the same names at random places would give, and that."""
    most = 1 + max(int(named.max()), int(y.max()))
    chance = math.prod(v.bincount(minlength=most).double() / len(v) for v in (named, y)).sum().item()
    return chance + 2 * (chance * (1 - chance) / len(y)) ** 0.5, chance
