import sys
import threading
import time
from collections import Counter, namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytorch
from tests.oracles import oracle
from tinytorch import nn, optim
from tinytorch.train.trainer import Trainer
from tinytorch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    Transformed,
    default_collate,
    random_split,
)

torch = oracle("torch", "oracle")


def numbers(count=10):
    return TensorDataset(np.arange(count), np.arange(count) * 2)


def order(loader):
    return [i for batch in loader for i in batch[0].tolist()]


class Noisy(Dataset):
    """Samples that draw from the common source of chance, slower the smaller their number."""

    def __init__(self, count=12):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(0.002 * (self.count - index) / self.count)
        return tinytorch.randn(3), index


def same(a, b):
    """Whether a batch of ours equals one of PyTorch's: types, shapes and numbers."""
    if isinstance(b, torch.Tensor):
        assert isinstance(a, tinytorch.Tensor)
        assert str(b.dtype) == f"torch.{a.dtype}" and tuple(b.shape) == a.shape
        return np.array_equal(a.numpy(), b.numpy())
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in b)
    assert type(a) is type(b)
    if isinstance(b, (list, tuple)) and not all(isinstance(x, (str, bytes)) for x in b):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


Point = namedtuple("Point", "x y")
LEAVES = {
    "float": st.floats(-1e3, 1e3),
    "int": st.integers(-(2**40), 2**40),
    "bool": st.booleans(),
    "text": st.text(max_size=3),
    "bytes": st.binary(max_size=3),
    "array": st.integers(0, 99).map(lambda i: np.full((2, 3), i, np.int16)),
    "scalar": st.integers(0, 99).map(np.float32),
}
SHAPES = st.recursive(
    st.sampled_from(sorted(LEAVES)),
    lambda inner: st.one_of(
        st.tuples(inner),
        st.tuples(inner, inner),
        st.lists(inner, min_size=1, max_size=2),
        st.dictionaries(st.sampled_from("ab"), inner, min_size=1),
        st.builds(Point, inner, inner),
    ),
    max_leaves=4,
)


def drawn(shape, draw):
    if isinstance(shape, str):
        return draw(LEAVES[shape])
    if isinstance(shape, dict):
        return {k: drawn(v, draw) for k, v in shape.items()}
    if isinstance(shape, Point):
        return Point(*(drawn(v, draw) for v in shape))
    return type(shape)(drawn(v, draw) for v in shape)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), shape=SHAPES, count=st.integers(1, 3))
def test_samples_become_a_batch_as_in_pytorch(data, shape, count):
    samples = [drawn(shape, data.draw) for _ in range(count)]
    assert same(default_collate(samples), torch.utils.data.default_collate(samples))


def test_tensors_become_a_batch_as_in_pytorch():
    ours, theirs = (
        [(library.tensor([1.0, 2.0]), {"n": library.tensor(3)})] * 2
        for library in (tinytorch, torch)
    )
    assert same(default_collate(ours), torch.utils.data.default_collate(theirs))


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        ([np.zeros(3), np.zeros(4)], ValueError, r"shapes \(3,\) and \(4,\) do not make a batch"),
        ([(1, 2), (1,)], ValueError, "samples of 2 and 1 parts"),
        ([{"a": 1}, {"b": 1}], ValueError, "the keys a and b"),
        ([None, None], TypeError, "type NoneType"),
        ([(1, {3}), (1, {3})], TypeError, "type set"),
    ],
)
def test_samples_that_make_no_batch(samples, error, words):
    with pytest.raises(error, match=words):
        next(iter(DataLoader(samples, 2)))


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 20), batch=st.integers(1, 8), drop=st.booleans(),
    workers=st.sampled_from([0, 3]), prefetch=st.integers(1, 3),
)  # fmt: skip
def test_batches_are_pytorchs(n, batch, drop, workers, prefetch):
    x = np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32)
    y = np.arange(n)
    theirs = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    theirs = torch.utils.data.DataLoader(theirs, batch, drop_last=drop)
    ours = DataLoader(
        TensorDataset(x, y), batch, drop_last=drop, num_workers=workers, prefetch_factor=prefetch
    )
    assert len(ours) == len(theirs)
    assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def test_items_are_pytorchs():
    x, y = np.ones((4, 2), np.float32), np.arange(4)
    ours, theirs = TensorDataset(x, y), torch.utils.data.TensorDataset(*map(torch.tensor, (x, y)))
    for i in (0, 3, -1):
        assert same(ours[i], theirs[i])
    assert len(list(ours)) == 4  # as a sequence it ends with an IndexError
    assert same(tuple(ours.tensors), tuple(theirs.tensors))


def test_shuffling_takes_every_sample_once_in_a_seeded_order():
    loader = DataLoader(numbers(50), 8, shuffle=True)
    tinytorch.manual_seed(0)
    first, second = order(loader), order(loader)
    assert sorted(first) == sorted(second) == list(range(50))
    assert len({tuple(range(50)), tuple(first), tuple(second)}) == 3
    tinytorch.manual_seed(0)
    assert [order(loader), order(loader)] == [first, second]
    whole = DataLoader(numbers(50), 8, shuffle=True, drop_last=True)
    counts = Counter(i for _ in range(40) for i in order(whole))
    assert set(counts) == set(range(50))  # another two are left out each time


def test_the_order_depends_only_on_the_state_of_chance():
    loader = DataLoader(numbers(), 4, shuffle=True)
    tinytorch.manual_seed(1)
    order(loader)
    state = tinytorch.get_rng_state()
    expected = order(loader)
    tinytorch.manual_seed(7)
    tinytorch.set_rng_state(state)
    assert order(DataLoader(numbers(), 4, shuffle=True, num_workers=2)) == expected


def test_a_generator_of_its_own():
    def loader():
        return DataLoader(
            numbers(), 4, shuffle=True, generator=tinytorch.Generator().manual_seed(3)
        )

    before = tinytorch.get_rng_state()
    assert order(loader()) == order(loader())
    assert tinytorch.get_rng_state() == before
    assert sorted(order(DataLoader(numbers(), 4, True, generator=np.random.default_rng(0)))) == [
        *range(10)
    ]


def test_chance_does_not_depend_on_workers():
    runs = []
    for workers in (0, 1, 4):
        tinytorch.manual_seed(5)
        loader = DataLoader(Noisy(), 2, shuffle=True, num_workers=workers)
        batches = []
        for x, y in loader:
            batches.append((x.tolist(), y.tolist()))
            tinytorch.rand(3)  # the training draws beside the workers
        runs.append((batches, tinytorch.rand(2).tolist()))
    assert runs[0] == runs[1] == runs[2]
    first, second = runs[0][0][:2]
    assert first[0] != second[0]


def test_workers_run_ahead_and_beside_each_other():
    gate = threading.Barrier(3)
    seen = []

    class Meets(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            seen.append(index)
            if index < 3:
                gate.wait(10)  # breaks unless three workers come at the same time
            return index

    batches = iter(DataLoader(Meets(), 1, num_workers=3, prefetch_factor=2))
    assert next(batches).tolist() == [0]
    stop = time.monotonic() + 10
    while len(seen) < 7 and time.monotonic() < stop:
        time.sleep(0.001)
    time.sleep(0.02)
    assert sorted(seen) == list(range(7))  # the one that was taken, and 3 x 2 ahead
    assert [b.item() for b in batches] == list(range(1, 12))


def workers_alive():
    return [t.name for t in threading.enumerate() if t.name.startswith("DataLoader")]


def test_no_worker_is_left_behind():
    loader = DataLoader(Noisy(40), 1, num_workers=3)
    for i, _ in enumerate(loader):
        assert 1 <= len(workers_alive()) <= 3
        if i == 2:
            break
    assert workers_alive() == []
    assert len(list(loader)) == 40
    assert workers_alive() == []
    batches = iter(loader)
    next(batches)
    del batches
    assert workers_alive() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_the_error_of_a_worker_is_that_of_the_loop(workers):
    class Broken(Noisy):
        def __getitem__(self, index):
            if index == 5:
                raise KeyError("sample five is lost")
            return super().__getitem__(index)

    taken = 0
    with pytest.raises(KeyError, match="sample five is lost") as caught:
        for _ in DataLoader(Broken(), 2, num_workers=workers):
            taken += 1
    assert taken == 2
    assert caught.traceback[-1].name == "__getitem__"
    assert workers_alive() == []


def test_a_list_and_a_collate_fn():
    assert [b.tolist() for b in DataLoader([1, 2, 3], 2)] == [[1, 2], [3]]

    def longest(samples):
        size = max(len(s) for s in samples)
        return tinytorch.tensor([s + [0] * (size - len(s)) for s in samples])

    loader = DataLoader([[1], [2, 3], [4, 5, 6]], 2, collate_fn=longest, num_workers=1)
    assert [b.tolist() for b in loader] == [[[1, 0], [2, 3]], [[4, 5, 6]]]


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any))
def test_concatenated_sets_are_pytorchs(sizes):
    arrays = [100 * i + np.arange(n) for i, n in enumerate(sizes)]
    ours = ConcatDataset([TensorDataset(a) for a in arrays])
    sets = [torch.utils.data.TensorDataset(torch.tensor(a)) for a in arrays]
    theirs = torch.utils.data.ConcatDataset(sets)
    assert len(ours) == len(theirs) and ours.cumulative_sizes == theirs.cumulative_sizes
    for i in range(-len(ours), len(ours)):
        assert same(ours[i], theirs[i])
    assert order(DataLoader(ours, 3)) == np.concatenate(arrays).tolist()
    for i in (len(ours), -len(ours) - 1):
        with pytest.raises(IndexError, match=f"no sample {i} among"):
            ours[i]
    assert len(TensorDataset(arrays[0]) + ours) == sizes[0] + len(ours)


LENGTHS = st.one_of(
    st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(lambda w: [x / sum(w) for x in w]),
)


@pytest.mark.filterwarnings("ignore:Length of split")  # PyTorch's, of empty ones
@settings(deadline=None, max_examples=80)
@given(n=st.integers(0, 12), lengths=LENGTHS)
def test_splits_have_pytorchs_lengths(n, lengths):
    try:
        theirs = [len(s) for s in torch.utils.data.random_split(range(n), lengths)]
    except ValueError:
        with pytest.raises(ValueError, match=f"the data set has {n} samples"):
            random_split(numbers(n), lengths)
        return
    parts = random_split(numbers(n), lengths)
    assert [len(part) for part in parts] == theirs
    assert sorted(int(i) for part in parts for i in part.indices) == list(range(n))


def test_splits_are_seeded():
    def split(seed):
        parts = random_split(numbers(30), [0.5, 0.5], tinytorch.Generator().manual_seed(seed))
        return [part.indices.tolist() for part in parts]

    assert split(1) == split(1) != split(2)
    tinytorch.manual_seed(0)
    first = random_split(numbers(30), [10, 20])[0].indices.tolist()
    tinytorch.manual_seed(0)
    assert random_split(numbers(30), [10, 20])[0].indices.tolist() == first


def test_subsets():
    part = Subset(Subset(numbers(), [9, 3, 5, -1]), [0, 2])
    assert [x.item() for x, _ in part] == [9, 5]
    assert part.batch(np.array([1, 0, 1]))[1].tolist() == [10, 18, 10]
    assert order(DataLoader(Subset([(i,) for i in range(5)], [4, 2]), 2)) == [4, 2]
    for wrong in (10, -11):
        with pytest.raises(ValueError, match=f"no sample {wrong} among 10"):
            Subset(numbers(), [0, wrong])


@pytest.mark.parametrize("batched", [True, False])
def test_transformed_sets_change_the_first_part(batched):
    def half(x):
        shapes.append(x.shape)
        return x * 0.5

    for data, expected in (
        (TensorDataset(np.ones((5, 2), np.float32), np.arange(5)), [0, 1, 2]),
        (ConcatDataset([[(np.ones(2, np.float32), i)] for i in range(5)]), [0, 1, 2]),
        ([np.ones(2, np.float32)] * 5, None),
    ):
        shapes = []
        changed = Transformed(data, half, batched=batched)
        batch = next(iter(DataLoader(changed, 3)))
        x = batch if expected is None else batch[0]
        assert x.tolist() == [[0.5, 0.5]] * 3 and len(changed) == 5
        assert shapes == ([(3, 2)] if batched else [(2,)] * 3)
        assert expected is None or batch[1].tolist() == expected
        sample = changed[0] if expected is None else changed[0][0]
        assert np.asarray(sample).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DataLoader([]), "the data set is empty"),
        (lambda: DataLoader(numbers(0)), "the data set is empty"),
        (lambda: DataLoader(numbers(), 0), "batch_size=0: give a whole number from 1"),
        (lambda: DataLoader(numbers(), 2.5), "batch_size=2.5"),
        (lambda: DataLoader(numbers(), num_workers=-1), "num_workers=-1"),
        (lambda: DataLoader(numbers(), prefetch_factor=0), "prefetch_factor=0"),
        (lambda: TensorDataset(np.zeros(3), np.zeros((2, 2))), r"the lengths \[3, 2\] differ"),
        (lambda: TensorDataset(), "give tensors or arrays"),
        (lambda: TensorDataset(np.float32(1)), "with a first dimension"),
        (lambda: ConcatDataset([]), "there are no data sets"),
        (lambda: random_split(numbers(), [4, 5]), r"\[4, 5\] adds up to 9: the data set has 10"),
        (lambda: random_split(numbers(), [0.5, 0.4]), "adds up to 0.9"),
        (lambda: random_split(numbers(), [2.5, 7.5]), "adds up to 10"),
        (lambda: random_split(numbers(), [11, -1]), "no length"),
        (lambda: random_split(numbers(), [float("nan"), 1]), "no length"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_a_set_without_its_methods_says_which():
    class Empty(Dataset):
        pass

    with pytest.raises(NotImplementedError, match="Empty: write __len__"):
        DataLoader(Empty())
    with pytest.raises(NotImplementedError, match="Empty: write __getitem__"):
        Empty()[0]


def test_a_batch_of_arrays_is_fast():
    """A batch costs less than a tenth of stacking its samples."""
    data = TensorDataset(np.zeros((1000, 16), np.float32), np.zeros(1000, np.int64))

    def seconds(loader):
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            for _ in loader:
                pass
            best = min(best, time.perf_counter() - start)
        return best

    stacked = DataLoader(data, 250, collate_fn=default_collate)
    assert seconds(DataLoader(data, 250)) < seconds(stacked) / 10


def test_the_source_of_chance_is_the_threads_own():
    tinytorch.manual_seed(0)
    before = tinytorch.get_rng_state()
    own = np.random.default_rng(3)
    with tinytorch.random.drawing_from(lambda: own):
        inside = tinytorch.rand(2).tolist()
        with tinytorch.random.drawing_from(lambda: np.random.default_rng(3)):
            assert tinytorch.rand(2).tolist() == inside
        others = []
        thread = threading.Thread(target=lambda: others.append(tinytorch.get_rng_state()))
        thread.start()
        thread.join()
        tinytorch.manual_seed(3)
        tinytorch.rand(2)
    assert others == [before] and tinytorch.get_rng_state() == before
    assert tinytorch.manual_seed(4) is tinytorch.random.generator
    first = tinytorch.rand(2).tolist()
    assert tinytorch.Generator().manual_seed(4).uniform(0, 1, 2).astype("f4").tolist() == first


def test_workers_may_compute_with_tensors_beside_a_captured_training():
    class Computes(Noisy):
        def __getitem__(self, index):
            with tinytorch.no_grad():
                return (tinytorch.randn(16) * 2.0).relu(), index % 4

    weights = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for workers in (0, 3):
            tinytorch.manual_seed(0)
            net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
            trainer = Trainer(net, optim.Adam(net.parameters()), progress=False)
            trainer.fit(DataLoader(Computes(64), 8, shuffle=True, num_workers=workers), 4)
            weights.append(net[0].weight.detach().numpy().tobytes())
    finally:
        sys.setswitchinterval(before)
    assert weights[0] == weights[1]
