"""Arrays from npz, npy and csv files, with errors of one sentence."""

import csv
import zipfile
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


# zipfile: NotImplementedError for ways to pack that it lacks, RuntimeError for a password.
_DAMAGED = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def _there(path: "str | Path") -> Path:
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no data file {path}.")
    return Path(path)


def _damaged(path: Path, kind: str) -> ValueError:
    return ValueError(
        f"The data file {path.name} cannot be read: it is damaged, or not an .{kind} of numbers."
    )


def read_npy(path: "str | Path", mmap: bool = False) -> Array:
    """The array in an .npy file. mmap: map the file into memory and read on access.

    Raises ValueError for another or a damaged file, FileNotFoundError if there is none.
    """
    path = _there(path)
    try:
        if mmap:
            return np.lib.format.open_memmap(path, "r")
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except _DAMAGED as e:
        raise _damaged(path, "npy") from e


def read_npz(path: "str | Path", *keys: str, optional: Sequence[str] = ()) -> dict[str, Array]:
    """Arrays of an .npz file: those of `keys`, or all, and those of `optional` that it has.

    `TensorDataset(*read_npz("data.npz", "x", "y").values())` makes a data set of two of them.
    Raises ValueError for a missing array and a damaged file, FileNotFoundError if there is none.
    """
    path = _there(path)
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("a single array")
            names = list(archive)
            wanted = [key for key in (*(keys or names), *optional) if key in names]
            arrays = {key: archive[key] for key in wanted}
    except _DAMAGED as e:
        raise _damaged(path, "npz") from e
    missing = [key for key in keys if key not in names]
    if missing:
        raise ValueError(
            f"The data file {path.name} has no {' and no '.join(missing)}: "
            f"it has {', '.join(names) or 'no arrays at all'}."
        )
    return arrays


class Table(NamedTuple):
    """Rows of a csv file.

    columns: F names; values: (N, F) float32; labels: (N,) or None; classes: the names that labels
    count where they were text, sorted.
    """

    columns: list[str]
    values: NDArray[np.float32]
    labels: "Array | None"
    classes: list[str]


def read_csv(
    path: "str | Path",
    label: "str | int | None" = None,
    *,
    header: bool = True,
    delimiter: str = ",",
) -> Table:
    """A table of numbers, one sample a row.

    label: the column of labels, by name or position: whole numbers become int64, other numbers
    float32, text the position of its class. header: whether the first line names the columns; if
    not, they are named 0, 1 and so on. Empty lines are skipped.
    Raises ValueError, with the line and the column, for a cell that is no finite number and for a
    row of another length; FileNotFoundError if there is no file.
    """
    path = _there(path)

    def refuse(what: str) -> ValueError:
        return ValueError(f"The data file {path.name} {what}.")

    columns: list[str] = []
    at: int | None = None
    lines, cells, texts = array("l"), array("d"), []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter)
            for row in reader:
                if not row:
                    continue
                if not columns:
                    columns = [c.strip() for c in row] if header else [*map(str, range(len(row)))]
                    at = _position(label, columns, refuse)
                    if header:
                        if all(map(_is_number, row)):
                            raise refuse("has numbers in its first line: use header=False")
                        continue
                if len(row) != len(columns):
                    raise refuse(
                        f"has {len(row)} cells in line {reader.line_num}: "
                        f"it has {len(columns)} columns"
                    )
                if at is not None:
                    texts.append(row.pop(at).strip())
                try:
                    cells.extend(map(float, row))
                except ValueError:
                    bad = next(i for i, cell in enumerate(row) if not _is_number(cell))
                    cell = f"'{row[bad].strip()}'" if row[bad].strip() else "an empty cell"
                    name = [c for i, c in enumerate(columns) if i != at][bad]
                    raise refuse(
                        f"has {cell} in line {reader.line_num}, column {name}: write a number"
                    ) from None
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error, OSError) as e:
        raise refuse("cannot be read as text with commas") from e
    if not lines:
        raise refuse("has no row of samples")
    names = [c for i, c in enumerate(columns) if i != at]
    values = np.array(cells, np.float64).reshape(len(lines), len(names))
    for row_number, column in np.argwhere(~(np.abs(values) <= np.finfo(np.float32).max))[:1]:
        raise refuse(
            f"has {values[row_number, column]} in line {lines[row_number]}, column "
            f"{names[column]}: write a finite number"
        )
    if "" in texts:
        raise refuse(f"has no label in line {lines[texts.index('')]}")
    labels, classes = (None, []) if at is None else _labels(texts)
    return Table(names, values.astype(np.float32), labels, classes)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _position(label: "str | int | None", columns: list[str], refuse: Any) -> "int | None":
    if label is None:
        return None
    if isinstance(label, str) and columns.count(label) == 1:
        return columns.index(label)
    if isinstance(label, int) and -len(columns) <= label < len(columns):
        return label % len(columns)
    raise refuse(f"has no single column {label!r}: its columns are {', '.join(columns)}")


def _labels(texts: list[str]) -> tuple[Array, list[str]]:
    for kind, dtype in ((int, np.int64), (float, np.float32)):
        try:
            return np.array([kind(t) for t in texts], dtype), []
        except ValueError:
            continue
    classes, numbers = np.unique(texts, return_inverse=True)
    return numbers.astype(np.int64), classes.tolist()
