"""Every baseline against a closed form or a small independent reference."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from megu import methods
from megu.core.models import build, copy_of, frozen, head
from megu.core.train import predict
from megu.methods import bad_teacher, boundary_shrink, l1_sparse, neggrad, projection, retrain_head, salun, scrub, unsir
from megu.methods.task import Task


@pytest.fixture
def task(tasks):
    return tasks["class", "resnet-small"]


@pytest.fixture
def trained(monkeypatch):
    """What train_on was called with; nothing is trained."""
    seen = []
    monkeypatch.setattr(
        Task,
        "train_on",
        lambda self, model, index, labels, recipe, **k: seen.append({"index": index, "labels": labels, **k}) or model,
    )
    return seen


def settings(name, **values):
    entry = methods.METHODS[name]
    return entry.settings(**values)


def test_neggrad_loss_by_hand():
    logits, y, goes = (
        torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 3.0]]),
        torch.tensor([0, 1, 0]),
        torch.tensor([False, True, False]),
    )
    ce = F.cross_entropy(logits, y, reduction="none")
    whole, signed = 0.8 * (ce[0] + ce[2]).item() / 2 - 0.2 * ce[1].item(), neggrad.signed(y, goes)
    assert neggrad.signed_loss(logits, signed, 0.8) == pytest.approx(whole)
    assert neggrad.signed_loss(logits[:1], neggrad.signed(y[:1], goes[:1]), 0.8) == pytest.approx(0.8 * ce[0].item())
    parts = [
        neggrad.signed_loss(logits[part], signed[part], 0.8).item() * len(logits[part]) / 3
        for part in (slice(0, 2), slice(2, 3))
    ]
    assert sum(parts) == pytest.approx(whole)


def test_bad_teacher_targets(task, trained):
    bad_teacher.unlearn(task, settings("bad-teacher"))
    (call,), n = trained, len(task.split.forget)
    fool, known = (predict(net, task.images, call["index"]).softmax(1) for net in (task.fresh_model(), task.original))
    assert torch.allclose(call["labels"], torch.cat([fool[:n], known[n:]]), atol=1e-6)
    assert not torch.allclose(fool[:n], known[:n], atol=1e-3)


def test_unsir_noise_raises_the_loss_and_keeps_the_forgotten_label(task, trained):
    unsir.unlearn(task, settings("unsir", noises=6, copies=3))
    impair, repair = trained
    r = len(task.retain_sample())
    assert (impair["labels"][r:] == task.forgotten[0]).all() and len(impair["index"]) == r + 18
    x = impair["shift"](task.images.batch(impair["index"]), torch.arange(r + 18))
    noise, model = x[r:], frozen(task.original)
    assert (
        torch.equal(x[:r], task.images.batch(impair["index"][:r]))
        and torch.equal(noise[:6], noise[6:12])
        and len(noise.unique(dim=0)) == 6
    )
    start = torch.randn(6, *task.images.shape, generator=task.generator("noise"))
    label = impair["labels"][r : r + 6]

    def loss(n):
        return (-F.cross_entropy(model(n), label) + 0.1 * n.square().flatten(1).sum(1).mean()).item()

    assert loss(noise[:6]) < loss(start) - 1  # the published objective, which was minimised
    assert torch.equal(repair["index"], task.retain_sample()) and torch.equal(
        repair["labels"], task.images.y[repair["index"]]
    )


def test_scrub_goes_away_first_and_comes_back(task, trained):
    scrub.unlearn(task, settings("scrub", epochs=3, max_epochs=2, rewind=False))
    assert [call["label"] for call in trained] == ["SCRUB, max", "SCRUB, min"] * 2 + ["SCRUB, min"]
    away, back = trained[0], trained[1]
    assert torch.equal(away["index"], task.split.forget) and torch.equal(back["index"], task.retain_sample())
    teacher = predict(task.original, task.images, task.split.forget)
    other = teacher.flip(1)
    p, q = (teacher / 4).softmax(1), (other / 4).softmax(1)
    expected = -16 * (p * (p / q).log()).sum(1).mean()
    assert away["loss"](other, teacher) == pytest.approx(expected.item(), rel=1e-4) and expected < 0
    assert len({call["purpose"] for call in trained}) == 5  # every pass has an order of its own


def test_scrub_rewinds_to_the_error_of_unseen_images():
    errors = {"one": 0.3, "two": 0.7, "three": 1.0}
    assert (
        scrub.rewound(list(errors), errors.get, 0.65) == "two"
        and scrub.rewound(list(errors), errors.get, 1.0) == "three"
    )
    assert scrub.rewound(["early", "late"], {"early": 0.5, "late": 0.5}.get, 0.9) == "late"


def test_salun_moves_exactly_half_of_the_weights_at_most(task):
    model = copy_of(task.original)
    mask = salun.salient(model, task.images, task.split.forget, 0.5)
    total = sum(w.numel() for w in model.parameters())
    assert sum(m.sum().item() for m in mask) == total // 2
    loss = F.cross_entropy(
        model(task.images.batch(task.split.forget)), task.images.y[task.split.forget], reduction="sum"
    )
    size = torch.cat([g.abs().flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    flat = torch.cat([m.flatten() for m in mask])
    assert size[flat].min() >= size[~flat].max() * 0.999
    after = salun.unlearn(task, settings("salun"))
    moved = torch.cat([(a != b).flatten() for a, b in zip(after.parameters(), task.original.parameters(), strict=True)])
    assert not moved[~flat].any() and moved[flat].float().mean() > 0.9


def test_salun_labels_are_drawn_afresh_over_all_classes(task, trained):
    salun.unlearn(task, settings("salun"))
    labels, n = trained[0]["labels"], len(task.split.forget)
    draws = torch.stack([labels(torch.arange(n)) for _ in range(30)])
    assert set(draws.unique().tolist()) == set(range(10)) and (draws[0] != draws[1]).any()
    kept = torch.arange(n, n + 5)
    assert torch.equal(labels(kept), task.images.y[trained[0]["index"][kept]])


def test_boundary_shrink_labels_against_an_independent_step(task):
    model, index, eps = frozen(task.original), task.split.forget[:8], 0.1
    found = boundary_shrink.nearest_wrong(model, task.images, index, eps)
    for i, label in zip(index, found, strict=True):
        pixel = (task.images.x[i].float() / 255)[None].requires_grad_()
        normed = (pixel - task.images.mean.view(-1, 1, 1)) / task.images.std.view(-1, 1, 1)
        F.cross_entropy(model(normed), task.images.y[i][None]).backward()
        stepped = (pixel.detach() + eps * pixel.grad.sign() - task.images.mean.view(-1, 1, 1)) / task.images.std.view(
            -1, 1, 1
        )
        order = model(stepped)[0].argsort(descending=True).tolist()
        assert label.item() == next(k for k in order if k != task.images.y[i].item())


def test_l1_penalty_falls_and_shrinks(task):
    lengths = [
        sum(w.abs().sum().item() for w in l1_sparse.unlearn(task, settings("l1-sparse", alpha=alpha)).parameters())
        for alpha in (0.0, 0.03)
    ]
    assert lengths[1] < 0.98 * lengths[0]
    weight = l1_sparse.falling(0.4, 4)
    assert [next(weight) for _ in range(6)] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0, 0])


def test_projection_against_an_explicit_svd():
    gen = torch.Generator().manual_seed(0)
    a, alpha = torch.randn(50, 7, generator=gen), 30.0
    u, sigma, _ = torch.linalg.svd(a.T.double(), full_matrices=False)
    s = sigma**2 / (sigma**2).sum()
    expected = u @ torch.diag(alpha * s / ((alpha - 1) * s + 1)) @ u.T
    assert torch.allclose(projection.space(a, alpha).double(), expected, atol=1e-5)
    energies = torch.linalg.eigvalsh(projection.space(a, alpha))
    assert energies.min() > -1e-5 and energies.max() < 1 + 1e-5


def test_projection_takes_what_only_the_forget_images_use():
    """Forget inputs live on axes 0 and 1, retain inputs on 1 and 2: axis 0 goes, 1 and 2 stay."""
    gen = torch.Generator().manual_seed(0)
    forget, retain = torch.zeros(200, 3), torch.zeros(200, 3)
    forget[:, :2], retain[:, 1:] = torch.randn(200, 2, generator=gen), torch.randn(200, 2, generator=gen)
    p_f, p_r = projection.space(forget, 1e5), projection.space(retain, 1e5)
    w = torch.ones(1, 3) @ (torch.eye(3) - (p_f - p_f @ p_r)).T
    assert w[0, 0].abs() < 1e-2 and torch.allclose(w[0, 1:], torch.ones(2), atol=1e-2)


def test_layer_inputs_reproduce_the_layers(task):
    model = copy_of(task.original).eval()
    found = projection.layer_inputs(model, task.images, task.split.forget[:4], torch.Generator().manual_seed(0))
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert list(found) == layers and all(found[m].shape[1] == m.weight.flatten(1).shape[1] for m in layers)
    outputs = []
    handle = layers[0].register_forward_hook(lambda m, i, o: outputs.append(o))
    model(task.images.batch(task.split.forget[:4]))
    handle.remove()
    mine = (found[layers[0]] @ layers[0].weight.flatten(1).T).sort(0).values
    assert torch.allclose(mine, outputs[0].permute(0, 2, 3, 1).flatten(0, 2).sort(0).values, atol=1e-4)


def test_head_reset_keeps_the_body(task, trained):
    model = retrain_head.unlearn(task, settings("retrain-head"))
    same = [torch.equal(a, b) for a, b in zip(model.parameters(), task.original.parameters(), strict=True)]
    assert same[:-2] == [True] * (len(same) - 2) and not same[-2]
    assert torch.equal(head(model).weight, head(task.fresh_model()).weight)


def test_the_two_unsir_settings_and_the_two_ssd_settings_differ_as_published():
    from megu.settings.profiles import resolve  # noqa: PLC0415

    paper = resolve(overrides={"preset": "paper"})
    one, two = (methods.method_settings(name, paper) for name in ("unsir", "unsir-ssd"))
    assert (one.impair.lr, one.repair.lr) == (0.02, 0.01) and (two.impair.lr, two.repair.lr) == (1e-4, 1e-4)
    one, two = (methods.method_settings(name, paper) for name in ("ssd", "ssd-code"))
    assert (one.alpha, one.lam) == (two.alpha, two.lam) == (10, 1) and (one.importance, two.importance) == (
        "sample",
        "batch",
    )
    assert (
        methods.method_settings("amnesiac", paper).recipe.optimiser
        == "adam"
        != methods.method_settings("amnesiac", resolve()).recipe.optimiser
    )
    assert np.isclose(methods.method_settings("salun", paper).recipe.lr, 0.013)
    assert build("resnet-small", 10, (1, 28, 28), 0) is not None
