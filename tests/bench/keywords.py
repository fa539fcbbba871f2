"""How well keywords are recognised, after training and in integers, on recordings of people:

python -m tests.bench.keywords --data FILE.npz... [--seeds 3] [--save FOLDER] [--json]

TinyTorch's own network for keywords, as `tito train` makes it, judged by the split `test` (or what
stands for it): the float network, and the integer ones of the exact and of the lane tier, which a
stream of sound equals byte for byte where a whole window has passed. The files are clips in the npz
layout of `tito`.
"""

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinytorch.data import datasets
from tinytorch.data.recordings import Recordings
from tinytorch.modelfile.export import to_bytes
from tinytorch.modelfile.runtime import Model
from tinytorch.sensing import keyword
from tinytorch.sensing.mel import SCALE
from tinytorch.sensing.trained import Trained
from tinytorch.train.trainer import evaluate
from tinytorch.utils.data import DataLoader

TIERS: dict[str, dict[str, Any]] = {
    "exact": {"tier": "exact"},
    "lane": {"tier": "lane", "bits": 8, "match": True},
}
AT_MOST = 0.7  # points below float


def judge(trained: Trained, recordings: Recordings) -> dict[str, float]:
    """The right answers in percent, of the float network and of each tier."""
    data = keyword.keyword_data(recordings, recordings.test_split, trained.features)
    accuracy = evaluate(trained.net, DataLoader(data, 128)).accuracy
    assert accuracy is not None
    x, y = (part.numpy() for part in data.tensors)
    features: NDArray[np.int8] = np.moveaxis(np.rint(x / SCALE), 1, -1).astype(np.int8)
    found = {"float": 100 * accuracy}
    for name, tier in TIERS.items():
        net, _ = keyword.quantized_keyword(trained, recordings, **tier)
        right = Model(to_bytes(net)).predict_batch(features) == y
        found[name] = 100 * float(right.mean())
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE.npz")
    words.add_argument("--epochs", type=int, default=keyword.EPOCHS)
    words.add_argument("--width", type=int, default=keyword.WIDTH)
    words.add_argument("--seeds", type=int, default=3, help="networks to train")
    words.add_argument("--save", type=Path, metavar="FOLDER", help="keep the networks there")
    words.add_argument("--json", action="store_true", help="end with one JSON object")
    args = words.parse_args()
    recordings = datasets.load(args.data)
    rows: list[dict[str, float]] = []
    print(f"{'right answers in %':20}{'float':>8}" + "".join(f"{t:>16}" for t in TIERS))
    for seed in range(args.seeds):
        start = perf_counter()
        trained = keyword.train_keyword(recordings, seed, args.epochs, args.width)
        seconds = perf_counter() - start
        if args.save:
            path = args.save / f"keyword_{recordings.rate:g}_{seed}.safetensors"
            keyword.save_keyword(path, trained, recordings.classes)
        rows.append({**judge(trained, recordings), "seconds": seconds})
        show(f"seed {seed}", rows[-1])
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    show("mean", mean)
    print(f"to reach: integers at most {AT_MOST} below float")
    if args.json:
        print(json.dumps({"each": rows, "mean": mean}))


def show(name: str, row: dict[str, float]) -> None:
    cells = "".join(f"{row[tier]:>8.2f} ({row[tier] - row['float']:+.2f})" for tier in TIERS)
    print(f"{name:20}{row['float']:>8.2f}{cells}{row['seconds']:>8.0f} s", flush=True)


if __name__ == "__main__":
    main()
