r"""Trains the tiny MLLM (`megu/guide/tiny.py`); `--help` says with what, `megu/guide/assets/tiny_mllm.md` is the model
card.

Four stages, each from where the one before it stopped; EfficientNet-Lite0 stays as it is, and SmolLM2 gets a low-rank
addition to its attention:

    words       connector alone: what it makes of an image lies near the word embeddings of what the image shows
    captions    connector, by the language model's own loss: "A photo of a ..."
    reading     low-rank addition, by questions about words in place of images: is it a ...? True or False
    questions   both, by the paper's question about images

Images: training images of the embedded set that no guide is asked about, and CIFAR-100 training images of 80 classes.
    Labels: class names, and what EfficientNet-Lite0 itself calls a photo (ImageNet labels), never a name of the 20
    classes that are held out.  Interrupted, it goes on at the last kept step.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from connector_data import DEV, HELD_OUT, Pool
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from tiny_networks import RANK, Connector, Speaker
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from megu.guide.tiny import weights_file
from megu.settings.files import atomic, hash_json, project_root, write_json

STAGES = {  # steps, images or questions a step, largest learning rate of the connector and of the low-rank addition
    "words": (1500, 64, 1e-3, 0),
    "captions": (300, 32, 1e-3, 0),
    "reading": (60, 32, 0, 2e-3),
    "questions": (850, 32, 6e-4, 2e-3),
}


def step_loss(stage, pool, speaker, connector, n, rng, place, words):
    """Loss of one step of a stage; ``words``: directions of ``pool.labels`` and their centre, ``place`` a label's
    row."""
    if stage in ("words", "captions"):
        index = pool.batch(rng, n)
        true, visual = [pool.true(i, rng) for i in index], connector(pool.tokens[index])
        if stage == "captions":
            return speaker.caption_loss(visual, true, rng)
        return F.cross_entropy(
            F.normalize(visual.mean(1) - words[1], dim=1) @ words[0].T / 0.05,
            torch.tensor([place[label] for label in true]),
        )
    index = pool.batch(rng, n // 2)
    true, false = [pool.true(i, rng) for i in index], [pool.false(i, rng) for i in index]
    visual = speaker.in_words(true) if stage == "reading" else connector(pool.tokens[index])
    return speaker.question_loss(visual.repeat(2, 1, 1), true + false, [1] * len(index) + [0] * len(index))


def train(pool, speaker, connector, folder):
    """All stages; state kept every 50 steps.  Returns: losses by stage."""
    about = hash_json({"labels": pool.labels, "stages": STAGES, "rank": RANK, "images": len(pool.own)})
    kept, words, place = (
        folder / f"training-{about}.pt",
        speaker.directions(pool.labels),
        {label: i for i, label in enumerate(pool.labels)},
    )
    state = torch.load(kept, weights_only=True) if kept.exists() else {"losses": {}}
    if "connector" in state:
        connector.load_state_dict(state["connector"])
        for name, value in speaker.addition().items():
            value.data = state["addition"][name]
    connector.train()
    for number, (stage, (steps, n, lr, lr_added)) in enumerate(STAGES.items()):
        opt = torch.optim.AdamW([
            {"params": list(connector.parameters()), "rate": lr, "weight_decay": 0.05},
            {"params": list(speaker.addition().values()), "rate": lr_added, "weight_decay": 0.0},
        ], betas=(0.9, 0.98))  # fmt: skip
        losses = state["losses"].setdefault(stage, [])
        if losses and len(losses) < steps:
            opt.load_state_dict(state["opt"])
        for step in tqdm(range(len(losses), steps), desc=stage, initial=len(losses), total=steps):
            rng = np.random.default_rng((number, step))
            torch.manual_seed(10_000 * number + step)
            for group in opt.param_groups:
                group["lr"] = group["rate"] * min(1 - step / steps, (step + 1) / 20)
            loss = step_loss(stage, pool, speaker, connector, n, rng, place, words)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_([p for group in opt.param_groups if group["rate"] for p in group["params"]], 1.0)
            opt.step()
            losses.append(loss.item())
            if len(losses) % 50 == 0 or len(losses) == steps:
                print(stage, len(losses), f"{np.mean(losses[-50:]):.3f}", flush=True)
                if stage == "words" and len(losses) == steps:
                    connector.rescale(pool.tokens[:500])
                state |= {
                    "connector": connector.state_dict(),
                    "addition": {k: v.data for k, v in speaker.addition().items()},
                    "opt": opt.state_dict(),
                }
                with atomic(kept) as part:
                    torch.save(state, part)
    connector.eval()
    return state["losses"]


@torch.no_grad()
def zero_shot(pool, speaker, connector, names, n=10):
    """How well the answers tell classes apart, on ``n`` test images of each: accuracy (raw, each label centred) and AUC
    of true against other labels."""
    tokens, _, y = pool.test
    which = [i for name in names for i in (y == pool.names.index(name)).nonzero().flatten()[:n].tolist()]
    odds = []
    for i in tqdm(which, desc="zero-shot"):
        false, true = speaker.answer_logits(connector(tokens[i][None]).repeat(len(names), 1, 1), names)[
            :, speaker.answers
        ].T
        odds.append((true - false).numpy())
    odds, of = np.array(odds), np.repeat(np.arange(len(names)), n)
    centred = odds - odds.mean(0)
    is_true = np.eye(len(names), dtype=bool)[of]
    found = {"accuracy": (odds.argmax(1) == of).mean(), "accuracy, centred": (centred.argmax(1) == of).mean()}
    found |= {
        "auc": roc_auc_score(is_true.ravel(), odds.ravel()),
        "auc, centred": roc_auc_score(is_true.ravel(), centred.ravel()),
    }
    return {key: round(float(value), 3) for key, value in found.items()}


def main():
    """Look, train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__.split(";")[0])
    parser.add_argument("--data-path", required=True, help="CIFAR-100: an .npz, or a folder of an earlier download")
    parser.add_argument("--out", type=Path, default=weights_file(), help="safetensors file of the trained weights")
    parser.add_argument(
        "--work",
        type=Path,
        default=project_root() / "runs" / "tiny_mllm",
        help="folder for features and what is kept of the training",
    )
    parser.add_argument(
        "--dev", action="store_true", help="hold out twenty more classes and measure on them: to choose the recipe"
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    pool, speaker = Pool(HELD_OUT + DEV if options.dev else HELD_OUT, options.data_path, options.work), Speaker()
    connector = Connector(pool.tokens, speaker.embed.weight.float().std().item())
    losses = train(pool, speaker, connector, options.work)
    weights = {f"connector.{name}": value for name, value in connector.folded().items()} | speaker.addition()
    with atomic(options.out) as part:
        save_file({name: value.detach().half().contiguous() for name, value in weights.items()}, part)
    report = {"images": len(pool.own), "labels": len(pool.labels)}
    report["loss"] = {
        stage: [round(float(np.mean(values[i : i + 50])), 3) for i in range(0, len(values), 50)]
        for stage, values in losses.items()
    }
    report["zero-shot"] = zero_shot(pool, speaker, connector, list(DEV if options.dev else HELD_OUT))
    write_json(options.work / "report.json", report)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
