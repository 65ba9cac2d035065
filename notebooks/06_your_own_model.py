# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
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
# for some seconds. With a model and photos of your own, begin at "The request".

# %%
import subprocess
import sys

import pandas as pd
import torch
from IPython.display import SVG
from safetensors.torch import save_file
from torchvision import datasets, models, transforms

from megu import unlearn
from megu.core.loading import weights_digest
from megu.datasets.sources import load
from megu.figures import deletion
from megu.figures import results as figures
from megu.runs.claims import finding, invariant, statements
from megu.runs.store import code_digest
from megu.settings.files import project_root
from megu.settings.profiles import resolve

# %% tags=["parameters"]
seed: int = 0  # of the training and of the unlearning
forget: str = "trouser"  # a class of the folder

# %% [markdown]
# ## A folder of photos
#
# One folder for each class, 120 training images and 40 unseen ones in each: `photos/train/trouser/*.png`, `photos/test/trouser/*.png`.

# %%
here = project_root() / "runs" / f"own-{code_digest()}"
known = load(resolve())
for part, first, count in (("train", 0, 120), ("test", known.num_train, 40)):
    for k, name in enumerate(known.classes):
        (here / "photos" / part / name).mkdir(parents=True, exist_ok=True)
        for i in first + (known.y[first:] == k).nonzero().flatten()[:count]:
            transforms.functional.to_pil_image(known.x[i]).save(here / "photos" / part / name / f"{i}.png")
files = sorted((here / "photos" / "train").glob("*/*.png"))
print(f"{len(files)} training images in {len(known.classes)} folders, e.g. {files[0].relative_to(here).as_posix()}")

# %%
some = [datasets.folder.default_loader(file) for file in files[::120]]
figures.image_grid(
    torch.stack([transforms.functional.to_tensor(image) for image in some]), [file.parent.name for file in files[::120]]
)

# %% [markdown]
# ## A classifier that is not ours
#
# torchvision's ResNet-18, trained by a plain loop for five epochs and saved as safetensors. Its pixels lie in [0, 1], without further normalisation: it has to be told so below (`normalise="unit"`).

# %%
photos = datasets.ImageFolder(here / "photos" / "train", transforms.ToTensor())
torch.manual_seed(seed)
model = models.resnet18(num_classes=len(photos.classes)).train()
step = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
for _ in range(5):
    for x, y in torch.utils.data.DataLoader(photos, batch_size=64, shuffle=True, drop_last=True):
        step.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        step.step()
save_file(model.eval().state_dict(), here / "model.safetensors")
print(
    f"{type(model).__name__} with {sum(w.numel() for w in model.parameters()):,} weights knows {len(photos.classes)} classes"
)

# %% [markdown]
# ## The request
#
# From the shell. A class name that is misspelt is refused before any work, with the nearest name; `--dry-run` prints a plan.

# %%
command = "-m megu unlearn --model model.safetensors --arch resnet18 --data photos --normalise unit".split()
misspelt = ["--forget", forget[0] + forget[2:], "--out", "forgotten"]
refused = subprocess.run([sys.executable, *command, *misspelt], cwd=here, capture_output=True, text=True)
print(refused.stderr.strip())
print("exit code", refused.returncode, "| something was written:", (here / "forgotten").exists())

# %% [markdown]
# From Python, spelt right. The model that is given stays as it is, bit for bit; what comes back is a new one, its history, the seconds of each stage and the report. The guide that chooses the
# perturbing labels is the embedded one, which reads the folders' names. Repeating the call goes on where it stopped.

# %%
before = weights_digest(model)
out = here / f"forgotten-{forget}-{before[:6]}"
result = unlearn(model, here / "photos", forget, normalise="unit", seed=seed, settings={"guide.exemplars": 8}, out=out)
print(
    "written:", *sorted(path.name for path in out.glob("report.*")), *sorted(path.name for path in out.glob("model.*"))
)

# %% [markdown]
# ## The report
#
# `report.html` needs no other file, prints well and reads without colour; `report.json` holds the same numbers. Its verdict, the rule that it follows from, and why, in plain words:

# %% tags=["nbval-ignore-output"]
verdict = result.report["verdict"]
print(f"{verdict['word']} ({verdict['rule']})", *verdict["findings"], "", "Limits", *verdict["limits"], sep="\n")

# %% tags=["nbval-ignore-output"]
SVG(deletion.bars(result.report["accuracy"]))

# %% [markdown]
# What the forgotten images are taken for now, and what an attacker sees who tries to tell them from unseen images of the same class:

# %% tags=["nbval-ignore-output"]
SVG(deletion.shares(result.report["predictions"]["shares"]))

# %% tags=["nbval-ignore-output"]
SVG(deletion.curves(result.report["attacks"]))

# %% [markdown]
# No model was retrained without the class, so that every metric that is a distance to one is not available. It is never guessed:

# %%
metrics = pd.DataFrame(result.report["metrics"]).set_index("metric")
for why, names in metrics.groupby("not_available").groups.items():
    print(f"{why}: {', '.join(names)}")

# %% [markdown]
# ## What was found
#
# Does a class go from a network that is not ours, and what is lost with it? The original is the negative control: it must know the class. Where the network was trained for seconds only, as here, an accuracy that *rises* by
# unlearning is more training on the retained images, not a merit of forgetting.

# %%
accuracy = {(row["model"], row["part"]): row["percent"] for row in result.report["accuracy"]}
hinted = refused.returncode == 2 and f"did you mean '{forget}'" in refused.stderr
change = accuracy["after", "test_retain"] - accuracy["before", "test_retain"]
claims = [
    invariant("a misspelt class is refused with the right name", hinted),
    invariant("nothing is written then", not (here / "forgotten").exists()),
    invariant("the given model is unchanged, bit for bit", weights_digest(model) == before),
    invariant("no metric is given without what it needs", metrics.loc["js_retrain", ["before", "after"]].isna().all()),
    finding("the new model names few of the forgotten images right, %", accuracy["after", "forget"], "<", 10),
    finding("the original fails that test, %", accuracy["before", "forget"], ">", 50),
    finding("change of retained test accuracy, points", change, ">", -10),
]
print(*statements(claims), sep="\n")
