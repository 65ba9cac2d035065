r"""Published presets beside the public code on the same batches: ``python tests/bench/parity.py PEER_FOLDER``.

The folder is a checkout of if-loops/selective-synaptic-dampening, OPTML-Group/Unlearn-Saliency or meghdadk/SCRUB;
nothing of it is kept.  Printed is for each piece the largest difference beside the size of what is compared; ours with
another setting stands below as a control.
"""

import importlib
import sys
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from torch import nn

from megu.core import models
from megu.core.device import Compute, generator
from megu.core.splits import forgotten_classes, make_split
from megu.datasets.images import Images
from megu.methods import METHODS, method_settings, salun, ssd, task
from megu.noise_pair import optimise_noise
from megu.settings.config import Noise, Recipe
from megu.settings.profiles import resolve

COUNT, CLASSES, RETAINED = 300, 10, 130  # images; those of the last batch are few
NAMES = tuple(f"class {k}" for k in range(CLASSES))


def imported(folder, *names, dummies=()):
    """Modules of a peer; what it imports and this machine lacks, and ``dummies``, no piece below needs."""
    sys.path.insert(0, str(folder))
    lacking = [name for name in ("datasets", "lmdb", "seaborn", "wandb") if not find_spec(name)]
    sys.modules |= {name: MagicMock() for top in (*lacking, *dummies) for name in (top, f"{top}.load")}
    return [importlib.import_module(name) for name in names]


def request(name, **changes):
    """(task, settings) of a published method on random images with a colour for each class."""
    gen, y = generator(0, "parity"), torch.arange(COUNT) % CLASSES
    x = torch.randint(0, 120, (COUNT, 3, 32, 32), generator=gen) + 13 * y[:, None, None, None]
    images = Images(
        "colours", x.to(torch.uint8), y, y, NAMES, NAMES, COUNT - 50, torch.full((3,), 0.4), torch.ones(3) / 4
    )
    settings = resolve(overrides={"preset": "paper", "forget.classes": ["class 3"], "data.name": "npz"})
    split, recipe = make_split(images, settings), Recipe(epochs=2, batch=64, lr=0.1)
    net, compute = models.build("resnet-small", CLASSES, images.shape, 0), Compute(torch.device("cpu"), False)
    forgotten = forgotten_classes(images, split, settings)
    made = task.Task(net, images, split, forgotten, None, RETAINED, "resnet-small", recipe, 0, compute)
    made.train_on(net, split.train, y[split.train], recipe)
    return made, method_settings(name, settings).model_copy(update=changes)


@contextmanager
def recorded():
    """The list of (images, labels) of the batches of each training in the block."""
    passes, fit = [], task.fit

    def noted(model, batch, *rest, **how):
        passes.append([])

        def kept(position):
            passes[-1].append(batch(position))
            return passes[-1][-1]

        return fit(model, kept, *rest, **how)

    with patch.object(task, "fit", noted):
        yield passes


def flat(tensors):
    """One vector."""
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


def compared(what, ours, theirs):
    """A line: the largest difference and the largest entry of theirs."""
    ours, theirs = flat(ours), flat(theirs)
    difference, size = (ours - theirs).abs().max(), theirs.abs().max()
    print(f"{what:60s} {difference:.2e} of {size:.2e}")


def of_ssd(folder):
    """Importances, dampening, amnesiac's training, UNSIR's noise and items."""
    theirs, public = imported(folder / "src", "ssd", "unlearn")
    here, settings = request("ssd-code")
    image, y = here.images.batch, here.images.y
    usual = {"lower_bound": 1, "exponent": 1, "dampening_constant": settings.lam, "selection_weighting": settings.alpha}
    rest = dict.fromkeys(("magnitude_diff", "min_layer", "max_layer", "forget_threshold"))
    model = models.copy_of(here.original).eval()
    peer = theirs.ParameterPerturber(model, torch.optim.SGD(model.parameters(), 0.1), "cpu", usual | rest)
    parts = ssd.public_order(here)
    found = [ssd.importance(here, part, settings.batch) for part in parts]
    public_ones = [peer.calc_importance([(image(i), 0, y[i]) for i in part.split(settings.batch)]) for part in parts]
    for name, one, other in zip(("forget", "all"), found, public_ones, strict=True):
        compared(f"SSD, importance of the {name} images", one, other.values())
    unsorted = ssd.importance(here, here.split.train, settings.batch)
    compared("  control: all images as they come", unsorted, other.values())
    peer.modify_weight(public_ones[1], public_ones[0])
    ours = ssd.dampened(models.copy_of(here.original), *found, settings.alpha, settings.lam)
    compared("SSD, dampened weights", ours.parameters(), model.parameters())

    here, settings = request("amnesiac")
    for name, cut in (("amnesiac, weights", "rest"), ("  control: batches cut into equal parts", "equal")):
        settings = settings.model_copy(update={"recipe": settings.recipe.model_copy(update={"cut": cut, "epochs": 1})})
        with recorded() as passes:
            ours = METHODS["amnesiac"].unlearn(here, settings)
        if cut == "rest":
            batches = [(x, labels, labels) for x, labels in passes[0]]
            model = models.copy_of(here.original)
            with patch.object(public, "evaluate", lambda *_: {}), patch.object(public, "epoch_end", lambda *_: None):
                public.fit_one_unlearning_cycle(1, model, batches, None, settings.recipe.lr, "cpu")
        compared(name, ours.parameters(), model.parameters())

    label, (here, settings) = here.forgotten[0], request("unsir-ssd")
    noise = public.UNSIR_noise(32, 3, 32, 32)
    start = torch.randn(32, 3, 32, 32, generator=here.generator("noise"))
    noise.noise.data = start.clone()
    public.UNSIR_noise_train(noise, models.frozen(here.original), label, settings.noise.steps, 32, "cpu")
    for name, steps in (("UNSIR, noise (model in eval mode)", 25), ("  control: a step fewer", 24)):
        given = torch.full((32,), label), here.images.shape, -1, Noise(steps=steps), here.generator("noise")
        compared(name, [optimise_noise(here.original, *given)], [noise.noise])
    items = public.UNSIR_create_noisy_loader(noise, label, [], 32).dataset
    distinct = len({x.numpy().tobytes() for x, *_ in items})
    print(f"UNSIR, noise items (distinct): ours {settings.noises * settings.copies} ({settings.noises}), public code"
          f" {len(items)} ({distinct})")  # fmt: skip


def of_salun(folder):
    """The mask, with a short last batch, and a masked epoch."""
    masks, impl = imported(folder / "Classification", "generate_mask", "unlearn.RL", dummies=("pruner", "trainer"))
    here, settings = request("salun")
    settings = settings.model_copy(update={"recipe": settings.recipe.model_copy(update={"batch": 20, "epochs": 1})})
    image, y, forget = here.images.batch, here.images.y, here.split.forget
    order = here.sample(forget, len(forget), "saliency")
    about = SimpleNamespace(
        unlearn_lr=settings.recipe.lr, momentum=0.9, weight_decay=5e-4, dataset="cifar100", num_classes=CLASSES,
        batch_size=20, warmup=0, print_freq=10**9, decreasing_lr="91,136", rewind_epoch=0, imagenet_arch=False,
        unlearn="RL", unlearn_epochs=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as about.save_dir, patch.object(torch.Tensor, "cuda", lambda self: self):
        batches = [(image(part), y[part]) for part in order.split(20)]
        masks.save_gradient_ratio({"forget": batches}, models.copy_of(here.original), nn.CrossEntropyLoss(), about)
        saved = Path(about.save_dir) / "with_0.5.pt"
        mask = torch.load(saved, weights_only=True)
        for saliency in ("batches", "images"):
            found = salun.salient(here, settings.model_copy(update={"saliency": saliency}))
            share = 100 * (flat(found) != flat(mask.values())).double().mean()
            print(f"SalUn, mask of {saliency}: {share:.3f} % of the weights differ from the public code's")
        with recorded() as passes:
            ours = METHODS["salun"].unlearn(here, settings)
        labelled = MagicMock(dataset=SimpleNamespace(targets=np.zeros(1)))
        model, loaders = models.copy_of(here.original), {"forget": labelled, "retain": MagicMock()}
        with patch("torch.utils.data.DataLoader", lambda *_, **__: passes[0]), patch("torch.utils.data.ConcatDataset"):
            impl.RL(loaders, model, nn.CrossEntropyLoss(), about, mask)
    compared("SalUn, weights after an epoch", ours.parameters(), model.parameters())


def of_scrub(folder):
    """All passes with one optimiser."""
    helper = "thirdparty.repdistiller"
    loops, zoo = imported(folder, f"{helper}.helper.loops", f"{helper}.distiller_zoo.KD")
    here, settings = request("scrub", rewind=False, forget_batch=8)
    model, teacher = models.copy_of(here.original), models.copy_of(here.original).eval()
    sgd, y, retain = settings.recipe, here.images.y, here.retain_sample()
    opt = torch.optim.SGD(model.parameters(), sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
    about = SimpleNamespace(distill="kd", gamma=settings.gamma, alpha=settings.alpha, beta=0)
    criteria = [nn.CrossEntropyLoss(), *[zoo.DistillKL(settings.temperature)] * 2]
    ends = {}
    for momentum in ("carried", "fresh"):
        with recorded() as passes:
            ends[momentum] = METHODS["scrub"].unlearn(here, settings.model_copy(update={"momentum": momentum}))
        if momentum == "carried":
            public = passes
    for batches in public:
        away = batches[0][1].ndim == 2  # the teacher's logits, else positions among the retain images
        pairs = [(x, torch.zeros(len(x), dtype=torch.long) if away else y[retain[labels]]) for x, labels in batches]
        split = "maximize" if away else "minimize"
        loops.train_distill(0, pairs, [model, teacher], None, criteria, opt, about, split, quiet=True)
    compared("SCRUB, weights after all passes", ends["carried"].parameters(), model.parameters())
    compared("  control: momentum afresh in every pass", ends["fresh"].parameters(), model.parameters())


PEERS = {"src/ssd.py": of_ssd, "Classification/generate_mask.py": of_salun, "thirdparty/repdistiller": of_scrub}


def main(folder):
    known = [compare for file, compare in PEERS.items() if (folder / file).exists()]
    if not known:
        sys.exit(f"{folder}: none of {', '.join(PEERS)} is there; give a checkout of a peer")
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    known[0](folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve()) if len(sys.argv) == 2 else sys.exit(__doc__)
