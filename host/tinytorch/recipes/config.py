"""The configuration of a training: a TOML file, checked against the classes below.

    seed = 1
    [data]
    source = "digits"
    [model]
    kind = "cnn"
    [optimizer]
    lr = 0.003

What the file leaves out has the values here. `recipes.run` trains by it.
"""

import difflib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

tomllib: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def _of(default: Any, help: str, **limits: float) -> Any:
    """A setting with its help and its limits: least, above or below."""
    about = {"help": help, **limits}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=about)
    return field(default=default, metadata=about)


@dataclass
class Data:
    source: Literal["digits", "gesture", "xor", "npz", "csv"] = _of(
        "digits", "digits, gesture, xor, npz or csv"
    )
    path: str = _of("", "the data file; gesture has a default")
    label: str = _of("", "csv: the column of labels (default: the last)")
    test: float = _of(0.2, "the fraction of samples in the test split", above=0, below=1)
    validation: float = _of(
        0.15, "the fraction of the rest in the validation split", above=0, below=1
    )
    standardize: bool = _of(
        False, "npz and csv: scale each input to mean 0 and standard deviation 1"
    )
    batch_size: int = _of(32, "samples in a batch", least=1)
    workers: int = _of(0, "threads that load batches", least=0)


@dataclass
class Model:
    kind: Literal["mlp", "cnn", "ds-cnn", "transformer", "gesture", "layers"] = _of(
        "mlp", "mlp, cnn, ds-cnn, transformer, gesture or layers"
    )
    hidden: list[int] = _of([128], "mlp: units of each hidden layer", least=1)
    channels: list[int] = _of([16, 32], "cnn and ds-cnn: channels of each block", least=1)
    width: int = _of(64, "transformer: the dimension of the embedding", least=1)
    heads: int = _of(2, "transformer: attention heads", least=1)
    depth: int = _of(2, "transformer: encoder layers", least=1)
    dropout: float = _of(0.0, "the probability of dropout", least=0, below=1)
    layers: list[dict] = _of([], 'layers: {type = "Conv1d", out = 16, kernel = 5} and so on')


@dataclass
class Optimizer:
    kind: Literal["sgd", "adam", "adamw", "rmsprop"] = _of("adam", "sgd, adam, adamw or rmsprop")
    lr: float = _of(1e-3, "the learning rate", above=0)
    momentum: float = _of(0.0, "sgd and rmsprop", least=0, below=1)
    weight_decay: float = _of(0.0, "the L2 penalty (adamw: decoupled)", least=0)


@dataclass
class Schedule:
    kind: Literal["constant", "step", "cosine", "one-cycle", "plateau"] = _of(
        "cosine", "constant, step, cosine, one-cycle or plateau"
    )
    warmup: int = _of(0, "epochs of linear warmup", least=0)
    step_size: int = _of(10, "step: epochs between two decays", least=1)
    gamma: float = _of(0.1, "step and plateau: the factor of the decay", above=0, below=1)
    patience: int = _of(5, "plateau: epochs without improvement before a decay", least=0)


@dataclass
class Train:
    epochs: int = _of(20, "the maximum number of epochs", least=1)
    patience: int = _of(
        0, "early stopping after so many epochs without improvement; 0: off", least=0
    )
    loss: Literal["auto", "cross-entropy", "mse", "l1", "huber"] = _of(
        "auto", "auto, cross-entropy, mse, l1 or huber"
    )
    label_smoothing: float = _of(0.0, "cross-entropy", least=0, below=1)
    metrics: list[str] = _of([], "f1, mae, mse, precision, recall, top2, top3 ...")
    accumulate: int = _of(1, "batches whose gradients are accumulated for a step", least=1)
    clip_norm: float = _of(0.0, "the maximum norm of the gradients; 0: no clipping", least=0)
    capture: bool = _of(True, "capture and replay steps: faster, with the same results")
    checkpoint_every: int = _of(0, "steps between checkpoints within an epoch; 0: none", least=0)


@dataclass
class Output:
    folder: str = _of("run", "the folder of model, history, curves and checkpoint")
    picture: bool = _of(True, "curves.png")
    statistics: bool = _of(False, "statistics.csv: statistics of weights and gradients by epoch")
    tensorboard: bool = _of(False, "event files for TensorBoard (needs tensorboardX)")


@dataclass
class Config:
    """The configuration of a training. `read` and `from_table` check names, types and ranges."""

    seed: int = _of(0, "the random seed", least=0)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    train: Train = field(default_factory=Train)
    output: Output = field(default_factory=Output)


def read(path: "str | Path", changes: Iterable[str] = ()) -> Config:
    """Read a configuration from a TOML file.

    changes: words such as "optimizer.lr=0.01", which override the file. Raises ValueError for an
    unknown setting and for a value of another type or out of range, FileNotFoundError if there is
    no file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration {path}.")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}.") from None
    return from_table(table, changes, path.name)


def from_table(
    table: Mapping[str, Any], changes: Iterable[str] = (), name: str = "the configuration"
) -> Config:
    """A configuration from nested dicts, as `read` does."""
    config = Config()
    _fill(config, table, "", f"In {name}")
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"'{change}' changes no setting: write it as optimizer.lr=0.01.")
        *sections, last = key.strip().split(".")
        value: Any = {last: _value(text.strip(), _types().get(key.strip()))}
        for section in reversed(sections):
            value = {section: value}
        _fill(config, value, "", f"In '{change}'")
    return config


def _value(text: str, kind: Any) -> Any:
    """A value from the command line: TOML's, and text needs no quotes."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    is_text = kind is str or get_origin(kind) is Literal
    return text if is_text and not isinstance(value, str) else value


def _types(cls: Any = Config, where: str = "") -> dict[str, Any]:
    """The type of each setting by its dotted name."""
    types: dict[str, Any] = {}
    for name, kind in get_type_hints(cls).items():
        types |= _types(kind, f"{where}{name}.") if is_dataclass(kind) else {where + name: kind}
    return types


def _fill(target: Any, table: Mapping[str, Any], where: str, source: str) -> None:
    types = get_type_hints(type(target))
    known = {f.name: f for f in fields(target)}
    for name, value in table.items():
        key = where + name
        if name not in known:
            raise ValueError(f"{source}, there is no setting '{key}': {_nearest(key)}.")
        kind = types[name]
        if is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise ValueError(f"{source}, '{key}' is {_shown(value)}: write a section [{key}].")
            _fill(getattr(target, name), value, f"{key}.", source)
        else:
            try:
                setattr(target, name, _checked(value, kind, known[name].metadata))
            except ValueError as error:
                raise ValueError(f"{source}, '{key}' is {_shown(value)}: write {error}.") from None


def _nearest(key: str) -> str:
    """The settings that may be meant, as the end of a sentence."""
    names = list(_types())
    section, _, leaf = key.rpartition(".")
    first = {f.name: f.name for f in fields(Config)}
    there = {n.rpartition(".")[2]: n for n in names if section and n.startswith(f"{section}.")}
    elsewhere = [name for name in names if name.rpartition(".")[2] == leaf]
    here = [(there or first)[n] for n in difflib.get_close_matches(leaf, there or first, 1)]
    close = elsewhere or here
    return (
        f"the nearest is '{close[0]}'"
        if close
        else f"there are {', '.join((there or first).values())}"
    )


def _checked(value: Any, kind: Any, limits: Mapping[str, Any]) -> Any:
    """The value, converted to its type. Raises ValueError with a description of valid values."""
    if get_origin(kind) is Literal:
        options = get_args(kind)
        if value in options:
            return value
        close = difflib.get_close_matches(str(value), options, 1, 0.5)
        listed = f"{', '.join(options[:-1])} or {options[-1]}"
        raise ValueError(f"{listed} (the nearest is {close[0]})" if close else listed)
    if get_origin(kind) is list:
        (part,) = get_args(kind)
        if not isinstance(value, list):
            raise ValueError(f"a list of {_WORDS[part][1]}, such as {_EXAMPLES[part]}")
        return [_checked(item, part, limits) for item in value]
    if kind is float and type(value) is int:
        value = float(value)
    fits = type(value) is kind or (kind is dict and isinstance(value, Mapping))
    words = _WORDS[kind][0]
    if kind in (int, float):
        bounds = {"least": "of at least", "above": "above", "below": "below"}
        limits = {name: limits[name] for name in bounds if name in limits}
        words += " and".join(f" {bounds[n]} {x:g}" for n, x in limits.items())
        fits = fits and math.isfinite(value) and all(
            (value >= x, value > x, value < x)[list(bounds).index(n)] for n, x in limits.items()
        )  # fmt: skip
    if not fits:
        raise ValueError(words)
    return value


_WORDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "true and false"),
    dict: ('a table such as {type = "ReLU"}', "tables"),
}
_EXAMPLES: dict[Any, str] = {int: "[64, 32]", str: '["f1"]', dict: '[{type = "ReLU"}]'}


def dumps(config: Config) -> str:
    """The whole configuration as TOML, with a comment on each setting."""
    lines = ["# Written by `tito train`; `tito train config.toml` repeats the training.", ""]
    for f in fields(config):
        value = getattr(config, f.name)
        if not is_dataclass(value):
            lines.append(f"{f.name} = {_toml(value)}  # {f.metadata['help']}")
            continue
        lines += ["", f"[{f.name}]"]
        for inner in fields(value):
            text = _toml(getattr(value, inner.name))
            lines.append(f"{inner.name} = {text}  # {inner.metadata['help']}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for this one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)  # numbers; dates have no setting


def _shown(value: Any) -> str:
    text = _toml(value) if isinstance(value, (bool, str, Mapping, list)) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def differences(a: Config, b: Config) -> list[str]:
    """The dotted names of the settings that differ."""
    return [name for name in _types() if get(a, name) != get(b, name)]


def get(config: Config, name: str) -> Any:
    """A setting by its dotted name."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value
