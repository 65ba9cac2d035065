r"""Builds megu/datasets/assets/fashion_mini.npz from the public Fashion-MNIST: `python env/build_assets.py [FOLDER]`.

FOLDER holds the four idx files (Debian's package dataset-fashion-mnist puts them into
/usr/share/datasets/fashion-mnist); without it torchvision downloads them. The first 1,000 training and 200 test images
of each class are taken in file order
and written round-robin by class, so the result is the same bytes for everyone.
"""

import gzip
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torchvision

ASSETS = Path(__file__).parents[1] / "megu" / "datasets" / "assets"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
PER_CLASS = {"train": 1000, "test": 200}


def read_idx(folder, prefix):
    images = np.frombuffer(
        gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16
    )
    labels = np.frombuffer(
        gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8
    )
    return images.reshape(-1, 28, 28), labels


def main(folder):
    if not folder.exists():
        torchvision.datasets.FashionMNIST(root := tempfile.mkdtemp(), download=True)
        folder = Path(root) / "FashionMNIST" / "raw"
    arrays = {}
    for part, prefix in (("train", "train"), ("test", "t10k")):
        x, y = read_idx(folder, prefix)
        chosen = np.stack([np.flatnonzero(y == c)[: PER_CLASS[part]] for c in range(10)], axis=1).ravel()
        arrays |= {f"x_{part}": x[chosen], f"y_{part}": y[chosen], f"index_{part}": chosen.astype(np.uint16)}

    out = ASSETS / "fashion_mini.npz"
    # np.savez knows deflate only (5.2 MB); np.load reads LZMA members as well (4.5 MB).
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_LZMA)
    about = {
        "file": out.name,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "source": "Fashion-MNIST, Zalando Research, https://github.com/zalandoresearch/fashion-mnist",
        "selection": "first 1000 training and 200 test images of each class in file order; index_* are their positions",
        "licence": "MIT, see fashion_mini.LICENSE",
    }
    (ASSETS / "fashion_mini.json").write_text(json.dumps(about, indent=2) + "\n")
    print(f"{out.name}: {out.stat().st_size / 1e6:.2f} MB, sha256 {about['sha256']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEBIAN)
