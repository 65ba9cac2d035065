"""Every method against a closed form or a small independent reference; what it trains on."""

import dataclasses

import pytest
import torch
from recording import unlearn
from refusals import refused
from torch import nn
from torch.nn import functional as F

from megu.core.models import build, copy_of, frozen, head
from megu.core.train import predict
from megu.methods import boundary_shrink, head_only, neggrad, projection, salun, scrub
from megu.settings.config import Recipe


def test_retrain_shares_nothing_with_the_original(task):
    start, fresh = build("resnet-small", 10, task.images.shape, 0), task.fresh_model()
    same = [a.equal(b) for a, b in zip(fresh.parameters(), start.parameters(), strict=True) if a.ndim > 1]
    assert len(same) > 10 and not any(same)


def test_retain_sample_is_the_same_for_every_method_of_a_seed(task):
    sample, other = task.retain_sample(), dataclasses.replace(task, seed=1).retain_sample()
    assert sample.equal(task.retain_sample()) and not sample.equal(other)
    assert len(sample.unique()) == 60 and torch.isin(sample, task.split.retain).all()


def test_neggrad_loss_by_hand():
    logits, y = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 3.0]]), torch.tensor([0, 1, 0])
    ce, goes = F.cross_entropy(logits, y, reduction="none"), torch.tensor([False, True, False])

    def loss(start, end, signed):
        return neggrad.signed_loss(logits[start:end], signed[start:end], 0.8).item()

    whole, signed = (0.8 * (ce[0] + ce[2]) / 2 - 0.2 * ce[1]).item(), neggrad.signed(y, goes)
    assert loss(0, 3, signed) == pytest.approx(whole)
    assert (2 * loss(0, 2, signed) + loss(2, 3, signed)) / 3 == pytest.approx(whole)
    assert loss(0, 1, neggrad.signed(y[:1], goes[:1])) == pytest.approx(0.8 * ce[0].item())


def test_random_labels_are_wrong_and_fixed(task, calls):
    ((one,), (two,)), n = (calls("amnesiac"), calls("amnesiac")), len(task.split.forget)
    y, wrong = task.images.y[one.index], one.labels[:n]
    assert one.labels.equal(two.labels) and one.labels[n:].equal(y[n:])
    assert (wrong != y[:n]).all() and len(wrong.unique()) > 5


def test_bad_teacher_targets(task, calls):
    (call,), n = calls("bad-teacher"), len(task.split.forget)
    fool, known = (predict(net, task.images, call.index).softmax(1) for net in (task.fresh_model(), task.original))
    assert torch.allclose(call.labels, torch.cat([fool[:n], known[n:]]), atol=1e-6)
    assert not torch.allclose(fool[:n], known[:n], atol=1e-3)


def test_unsir_noise_raises_the_loss_and_keeps_the_forgotten_label(task, calls):
    (impair, repair), retain, model = calls("unsir", noises=6, copies=3), task.retain_sample(), frozen(task.original)
    r, plain = len(retain), task.images.batch(impair.index)
    x = impair.shift(plain, torch.arange(r + 18))
    noise, labels = x[r:], impair.labels[r:]
    assert (labels == task.forgotten[0]).all() and len(labels) == len(noise) == 18
    assert x[:r].equal(plain[:r]) and noise[:6].equal(noise[6:12]) and len(noise.unique(dim=0)) == 6

    def loss(n):
        return (0.1 * n.square().flatten(1).sum(1).mean() - F.cross_entropy(model(n), labels[:6])).item()

    start = torch.randn(6, *task.images.shape, generator=task.generator("noise"))
    assert loss(noise[:6]) < loss(start) - 1  # the published objective, which was minimised
    assert repair.index.equal(retain) and repair.labels.equal(task.images.y[retain])


def test_scrub_goes_away_first_and_comes_back(task, calls):
    found, forget = calls("scrub", epochs=3, max_epochs=2, rewind=False), task.split.forget
    assert [call.label for call in found] == ["SCRUB, max", "SCRUB, min"] * 2 + ["SCRUB, min"]
    assert found[0].index.equal(forget) and found[1].index.equal(task.retain_sample())
    teacher = predict(task.original, task.images, forget)
    other = teacher.flip(1)
    p, q = (teacher / 4).softmax(1), (other / 4).softmax(1)
    expected = -16 * (p * (p / q).log()).sum(1).mean().item()
    assert found[0].loss(other, teacher).item() == pytest.approx(expected, rel=1e-4) and expected < 0
    assert len({call.purpose for call in found}) == 5  # every pass has an order of its own


@pytest.mark.parametrize(("errors", "goal", "best"), [
    ({"one": 0.3, "two": 0.7, "three": 1.0}, 0.65, "two"), ({"one": 0.3, "two": 0.7, "three": 1.0}, 1.0, "three"),
    ({"early": 0.5, "late": 0.5}, 0.9, "late"),
])  # fmt: skip
def test_scrub_rewinds_to_the_error_of_unseen_images(errors, goal, best):
    assert scrub.rewound(list(errors), errors.get, goal) == best


def test_salun_moves_exactly_half_of_the_weights_at_most(task):
    def flat(tensors):
        return torch.cat([tensor.flatten() for tensor in tensors])

    forget, weights = task.split.forget, list(task.original.parameters())
    loss = F.cross_entropy(task.original(task.images.batch(forget)), task.images.y[forget], reduction="sum")
    size, mask = flat(torch.autograd.grad(loss, weights)).abs(), flat(salun.salient(task, salun.SalunSettings()))
    assert mask.sum() == len(mask) // 2 and size[mask].min() >= size[~mask].max() * 0.999
    moved = flat(unlearn("salun", task).parameters()) != flat(weights)
    assert not moved[~mask].any() and moved[mask].float().mean() > 0.9


def test_salun_labels_are_drawn_afresh_over_all_classes(task, calls):
    (call,), n = calls("salun"), len(task.split.forget)
    draws = torch.stack([call.labels(torch.arange(n)) for _ in range(30)])
    assert set(draws.unique().tolist()) == set(range(10)) and (draws[0] != draws[1]).any()
    kept = torch.arange(n, n + 5)
    assert torch.equal(call.labels(kept), task.images.y[call.index[kept]])


def test_boundary_shrink_labels_against_an_independent_step(task):
    model, train, eps, images, kept = frozen(task.original), task.split.train, 0.1, task.images, 0
    named = train[predict(model, images, train).argmax(1) == images.y[train]]
    index = torch.cat([task.split.forget[:4], named[:4]])

    def normed(pixel):
        return (pixel - images.mean.view(-1, 1, 1)) / images.std.view(-1, 1, 1)

    found = boundary_shrink.nearest_wrong(model, images, index, eps)
    for i, label in zip(index, found, strict=True):
        pixel, own = (images.x[i].float() / 255)[None].requires_grad_(), images.y[i].item()
        F.cross_entropy(model(normed(pixel)), images.y[i][None]).backward()
        order = model(normed(pixel.detach() + eps * pixel.grad.sign()))[0].argsort(descending=True).tolist()
        assert label.item() == next(k for k in order if k != own)
        kept += order[0] == own
    assert kept, "an image that survives the step still gets another label"


def test_l1_penalty_is_the_norm_and_falls_from_step_to_step(task, calls):
    (call,) = calls("l1-sparse", alpha=0.4, recipe=Recipe(epochs=2, batch=30))  # four steps
    logits, y, found = torch.zeros(1, 2), torch.tensor([0]), []
    for _ in range(4):
        found.append((call.loss(logits, y) - F.cross_entropy(logits, y)).item())
        call.at.step += 1
    norm = sum(w.abs().sum().item() for w in task.original.parameters())
    assert found == pytest.approx([0.4 * norm, 0.3 * norm, 0.2 * norm, 0.1 * norm], rel=1e-5)


def test_projection_against_an_explicit_svd():
    a, alpha = torch.randn(50, 7, generator=torch.Generator()), 30.0
    u, sigma, _ = torch.linalg.svd(a.T.double(), full_matrices=False)
    s = sigma**2 / (sigma**2).sum()
    expected = u @ torch.diag(alpha * s / ((alpha - 1) * s + 1)) @ u.T
    found = projection.space(a, alpha)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert torch.linalg.eigvalsh(found).sub(0.5).abs().max() < 0.5 + 1e-5


def test_projection_takes_what_only_the_forget_images_use(task, monkeypatch):
    """Forget inputs live on axes 0 and 1, retain inputs on 1 and 2: axis 0 goes, 1 and 2 stay."""
    layer, gen = nn.Linear(3, 1), torch.Generator()
    nn.init.ones_(layer.weight)
    inputs = (torch.randn(200, 3, generator=gen) * torch.tensor(used) for used in ([1.0, 1, 0], [0, 1.0, 1]))
    monkeypatch.setattr(projection, "layer_inputs", lambda model, *_: {model: next(inputs)})
    w = unlearn("projection", dataclasses.replace(task, original=layer), alpha_f=1e5, alpha_r=1e5).weight[0]
    assert w[0].abs() < 1e-2 and torch.allclose(w[1:], torch.ones(2), atol=1e-2)


def test_layer_inputs_reproduce_the_layers(task):
    model, x = copy_of(task.original), task.split.forget[:4]
    found = projection.layer_inputs(model, task.images, x, torch.Generator())
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert set(found) == set(layers) and all(found[m].shape[1] == m.weight.flatten(1).shape[1] for m in layers)
    made = found[layers[0]] @ layers[0].weight.flatten(1).T
    output = layers[0](task.images.batch(x)).permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.allclose(made.sort(0).values, output.sort(0).values, atol=1e-4)


def test_head_only_moves_the_retained_rows_of_the_last_layer_alone(task):
    model, (forgotten,) = unlearn("head-only", task), task.forgotten
    before, after = task.original.state_dict(), model.state_dict()
    name, last = next((name, m) for name, m in model.named_modules() if m is head(model))
    moved = {key for key in before if not after[key].equal(before[key])}
    assert moved == {f"{name}.weight", f"{name}.bias"} and all(p.requires_grad for p in model.parameters())
    rows = (last.weight != head(task.original).weight).any(1)
    assert rows.all() and not last.weight[forgotten].any() and last.bias[forgotten] == head_only.MASKED
    logits = predict(model, task.images, task.split.train)
    assert (logits[:, forgotten] == head_only.MASKED).all() and (logits.argmax(1) != forgotten).all()
    retain, masked = task.retain_sample(), torch.eye(10)[forgotten] * -1e9
    learnt, before = (
        F.cross_entropy(predict(net, task.images, retain) + masked, task.images.y[retain])
        for net in (model, task.original)
    )
    assert learnt < before


def test_head_only_learns_among_the_retained_logits_alone(task, calls):
    (call,), (forgotten,), logits = calls("head-only"), task.forgotten, torch.randn(3, 10, generator=torch.Generator())
    y = torch.tensor([k for k in range(10) if k != forgotten][:3])
    retained = logits.exp().sum(1) - logits[:, forgotten].exp()
    assert call.loss(logits, y).item() == pytest.approx((retained.log() - logits[range(3), y]).mean().item(), rel=1e-5)


def test_head_only_needs_a_bias_to_mask(task):
    bare = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False))
    with refused("head-only: the last layer is not linear with a bias"):
        unlearn("head-only", dataclasses.replace(task, original=bare))


def test_head_reset_keeps_the_body(task, calls):
    (call,) = calls("retrain-head")
    *body, weight, _ = map(torch.equal, call.model.parameters(), task.original.parameters())
    assert all(body) and not weight
    assert torch.equal(head(call.model).weight, head(task.fresh_model()).weight)
