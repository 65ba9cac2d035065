# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · Your own model
#
# **Question.** Someone has a classifier, a folder of photos and a request to delete a class. What do they do, and what can they hand over afterwards?
#
# | reads | writes | feeds |
# |---|---|---|
# | a folder of images by class, a torchvision model | the new model, a deletion report (HTML and JSON) | nothing: it stands alone |
#
# Nothing here is ours but the request: the images lie in a folder, the network is torchvision's. To have both at hand, the first cells write the folder from the embedded images and train the network
# for some seconds. With a model and photos of your own, give them as parameters: these cells are passed over then.
# `papermill 06_your_own_model.ipynb OUT.ipynb -p model model.safetensors -p arch resnet18 -p data photos -p forget rocket`, or `-p config request.toml` for everything that can be asked.

# %%
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch
from IPython.display import Image, display
from safetensors.torch import save_file
from torchvision import datasets, models, transforms

from megu import unlearn
from megu.datasets.folder import SUFFIXES
from megu.datasets.sources import load
from megu.datasets.table import read_csv
from megu.figures import deletion
from megu.figures import results as figures
from megu.runs.claims import finding, invariant, statements
from megu.runs.store import code_digest
from megu.settings.files import hash_file, project_root
from megu.settings.profiles import resolve
from megu.settings.progress import Callback
from megu.settings.request_file import request_of, write
from megu.settings.values import check_parameters

# %% tags=["parameters"]
config: str = ""  # a request as a TOML or YAML file; what is given below wins
model: str = ""  # weights as .safetensors; without any, a network is trained here
arch: str = ""  # its architecture, e.g. resnet18
data: str = ""  # a folder of images by class; without any, one is written here
forget: str = ""  # a class of the folder, here trouser
normalise: str = ""  # what the model expects, see `megu unlearn --help`
seed: int = -1  # of the training here and of the unlearning; -1: that of the request, else 0

# %% [markdown]
# ## A folder of photos
#
# One folder for each class, 120 training images and 40 unseen ones in each: `photos/train/trouser/*.png`, `photos/test/trouser/*.png`.

# %%
check_parameters(globals())
here, alone = project_root() / "runs" / f"own-{code_digest()}", not (config or model or data)
known = load(resolve())
for part, first, count in (("train", 0, 120), ("test", known.num_train, 40)) if alone else ():
    for k, name in enumerate(known.classes):
        (here / "photos" / part / name).mkdir(parents=True, exist_ok=True)
        for i in first + (known.y[first:] == k).nonzero().flatten()[:count]:
            transforms.functional.to_pil_image(known.x[i]).save(here / "photos" / part / name / f"{i}.png")
if alone:
    print("written:", *sorted(path.name for path in (here / "photos" / "train").iterdir()))

# %% [markdown]
# ## A classifier that is not ours
#
# torchvision's ResNet-18, trained by a plain loop for ten epochs and saved as safetensors. Its pixels lie in [0, 1], without further normalisation: it has to be told so below (`normalise="unit"`).


# %%
if alone:
    photos = datasets.ImageFolder(here / "photos" / "train", transforms.ToTensor())
    torch.set_num_threads(1)  # the same bits on any number of cores
    torch.manual_seed(max(seed, 0))
    net = models.resnet18(num_classes=len(photos.classes)).train()
    step = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for _ in range(10):
        for x, y in torch.utils.data.DataLoader(photos, batch_size=64, shuffle=True, drop_last=True):
            step.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            step.step()
    save_file(net.eval().state_dict(), here / "model.safetensors")
    print(f"{type(net).__name__} with {sum(w.numel() for w in net.parameters()):,} weights")

# %% [markdown]
# ## The request
#
# All of it is one file, which the command line, `megu.unlearn` and this notebook read. Paths in it are relative to it.

# %%
ours = {"model": here / "model.safetensors", "arch": "resnet18", "data": str(here / "photos"), "forget": ["trouser"]}
ours |= {"normalise": "unit", "seed": 0, "settings": {"guide.exemplars": 8, "threads": 1}}
given = {"model": model, "arch": arch, "data": data, "forget": [forget] if forget else "", "normalise": normalise}
given = {name: value for name, value in {**given, "seed": seed}.items() if value not in ("", -1)}
request = request_of({**(ours if alone else {}), **given}, config or None)
here.mkdir(parents=True, exist_ok=True)
write(request, here / "request.toml")
print((here / "request.toml").read_text() if alone else "written: request.toml")

# %% [markdown]
# Ten of its images:

# %%
files = sorted(file for file in Path(request.data).rglob("*") if file.suffix.lower() in SUFFIXES)
named = {file: file.parent.name for file in files} or {file: name for file, name, _ in read_csv(Path(request.data))[0]}
some = [*named][:: -(-len(named) // 10)]
look = [transforms.functional.resize(datasets.folder.default_loader(file), [64, 64]) for file in some]
figures.image_grid(
    torch.stack([transforms.functional.to_tensor(image) for image in look]), [named[file] for file in some]
)

# %% [markdown]
# From the shell. A class name that is misspelt is refused before any work, with the nearest name; `--dry-run` prints a plan.

# %%
right = request.forget[0] if isinstance(request.forget, list) and isinstance(request.forget[0], str) else "no name"
command = "-m megu unlearn --config request.toml --out forgotten".split()
misspelt = right[0] + right[2:]
misspelt += "x" * (misspelt in named.values())
refused = subprocess.run([sys.executable, *command, "--forget", misspelt], cwd=here, capture_output=True, text=True)
print(refused.stderr.strip())
print("exit code", refused.returncode, "| something was written:", (here / "forgotten").exists())

# %% [markdown]
# From Python, spelt right; first the plan, then the work. The model that is given stays as it is, bit for bit; what comes back is a new one, its history, the seconds of each stage and the report. The
# guide that chooses the perturbing labels is the embedded one, which reads the folders' names. Repeating the call goes on where it stopped. A callback hears of every stage and epoch.

# %% tags=["nbval-ignore-output"]
plan = str(unlearn(config=here / "request.toml", dry_run=True))
print(*plan.splitlines()[:-1], sep="\n")  # the last line estimates the time on this machine

# %% tags=["nbval-ignore-output"]
told = Callback()
told.on_stage = lambda stage: print(stage)
told.on_epoch = lambda training, epoch, values: print(
    f"  {training}, epoch {epoch}:", ", ".join(f"{name} {value:.3f}" for name, value in values.items())
)
before = hash_file(request.model)
out = here / f"forgotten-{hash_file(here / 'request.toml')[:6]}-{before[:6]}"
if alone:  # some seconds of work, done again before the reader's eyes
    shutil.rmtree(out, ignore_errors=True)
result = unlearn(config=here / "request.toml", out=out, callbacks=[told])
print("written:", *sorted(path.name for kind in ("report.*", "model.*", "log.csv") for path in out.glob(kind)))

# %% [markdown]
# ## The report
#
# `report.html` needs no other file, prints well and reads without colour; `report.json` holds the same numbers. Its verdict, why, and the rule that it follows from, in plain words:

# %% tags=["nbval-ignore-output"]
verdict = result.report["verdict"]
why = *verdict["findings"], "", "The rule", verdict["rule"], "", "Limits", *verdict["limits"]
print(verdict["word"], "", *why, sep="\n")

# %% tags=["nbval-ignore-output"]
Image(deletion.bars(result.report["accuracy"], write=deletion.png))

# %% [markdown]
# What the forgotten images are taken for now, and what two attackers see who try to tell them from unseen images of the same class, one by the loss, one by the entropy. The verdict names the attack
# that it speaks of. Where the unseen images are too few, an attack that tells nothing does not show that no trace is left: so it says which AUC it would have found.

# %% tags=["nbval-ignore-output"]
Image(deletion.shares(result.report["predictions"]["shares"], write=deletion.png))

# %% tags=["nbval-ignore-output"]
if result.report["attacks"]:  # without test images there are none
    display(Image(deletion.curves(result.report["attacks"], write=deletion.png)))

# %% [markdown]
# Where no model was retrained without the class, every metric that is a distance to one is not available. It is never guessed:

# %%
metrics = pd.DataFrame(result.report["metrics"]).set_index("metric")
for why, names in metrics.groupby("not_available").groups.items():
    print(f"{why}: {', '.join(names)}")
absent = metrics.loc[metrics["not_available"].notna(), ["before", "after"]]

# %% [markdown]
# ## What was found
#
# Does a class go from a network that is not ours, and what is lost with it? The original is the negative control: it must know the class. Where the network was trained for seconds only, as here, an accuracy that *rises* by
# unlearning is more training on the retained images, not a merit of forgetting.

# %%
accuracy = {(row["model"], row["part"]): row["percent"] for row in result.report["accuracy"]}
hinted = refused.returncode == 2 and ("did you mean" in refused.stderr or not alone)
part = "test_retain" if ("after", "test_retain") in accuracy else "retain"
change = accuracy["after", part] - accuracy["before", part]
claims = [
    invariant("a misspelt class is refused with the right name", hinted),
    invariant("nothing is written then", not (here / "forgotten").exists()),
    invariant("the given model is unchanged, bit for bit", hash_file(request.model) == before),
    invariant("no metric is given without what it needs", absent.isna().all(axis=None)),
    finding("the new model names few of the forgotten images right, %", accuracy["after", "forget"], "<", 10),
    finding("the original fails that test, %", accuracy["before", "forget"], ">", 50),
    finding(f"change of accuracy, {part}, points", change, ">", -10),
]
print(*statements(claims), sep="\n")
