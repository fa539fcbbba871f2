"""Networks trained for a sensor, with their features, in memory and in files."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tinytorch import nn, serialize
from tinytorch.autograd.tensor import Tensor
from tinytorch.train.history import Epoch

# From the features, the number of classes and the weights by name to a network for them.
Build = Callable[[dict[str, Any], int, dict[str, Tensor]], nn.Sequential]


class Trained(NamedTuple):
    """A trained network in eval mode, its history, and the features for the model file."""

    net: nn.Sequential
    history: list[Epoch]
    features: dict[str, Any]


def save_trained(path: "str | Path", kind: str, trained: Trained, classes: list[str]) -> None:
    """Write a trained network as safetensors, with the metadata to rebuild and quantize it."""
    metadata = {
        "kind": kind,
        "classes": classes,
        "features": trained.features,
        "history": [asdict(epoch) for epoch in trained.history],
    }
    serialize.save(trained.net.state_dict(), path, metadata)


def load_trained(path: "str | Path", kind: str, build: Build) -> tuple[Trained, list[str]]:
    """Read the network and classes that `save_trained` wrote.

    Raises ValueError for other files and for networks of another kind.
    """
    tensors, metadata = serialize.load_with_metadata(path)
    if metadata.get("kind") != kind:
        raise ValueError(f"{path} holds no trained {kind} network: make one with `tito train`.")
    features, classes = metadata["features"], metadata["classes"]
    net = build(features, len(classes), tensors)
    net.load_state_dict(tensors)
    net.eval()
    return Trained(net, [Epoch(**epoch) for epoch in metadata["history"]], features), classes
