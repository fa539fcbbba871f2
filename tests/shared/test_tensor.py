from array import array

from tinytorch_core.tensor import Tensor, ones, tensor, zeros


def close(t, values, tolerance=1e-5):
    expected = tensor(values)
    assert t.shape == expected.shape, (t.shape, expected.shape)
    for a, b in zip(t.data, expected.data):
        assert abs(a - b) <= tolerance * (1 + abs(b)), (t, values)


def error(function, *parts):
    try:
        function()
    except (ValueError, IndexError) as e:
        for part in parts:
            assert part in str(e), str(e)
    else:
        raise AssertionError("no error")


def counting(*shape):
    n = len(zeros(shape).data)
    return Tensor(array("f", range(n)), shape)


def test_making():
    assert tensor([[1, 2], [3, 4]]).shape == (2, 2)
    assert tensor(3).shape == () and tensor(3).item() == 3
    assert ones((2, 3)).tolist() == ones(2, 3).tolist() == [[1, 1, 1], [1, 1, 1]]
    error(lambda: tensor([[1, 2], [3]]), "different lengths")
    error(lambda: Tensor(array("f", [1, 2]), (3,)), "2 numbers", "(3,)")
    error(lambda: ones((2,)).item(), "(2,)")


def test_operators_broadcast():
    a = tensor([[1, 2, 3], [4, 5, 6]])
    close(a + tensor([10, 20, 30]), [[11, 22, 33], [14, 25, 36]])
    close(tensor([[1], [2]]) * tensor([3, 4]), [[3, 4], [6, 8]])
    close(1 - a + 2, [[2, 1, 0], [-1, -2, -3]])
    close(6 / a - 1, [[5, 2, 1], [0.5, 0.2, 0]])
    close(2 * a**2, [[2, 8, 18], [32, 50, 72]])
    close(-a > -3.5, [[1, 1, 1], [0, 0, 0]])
    close(a <= a.T.T, [[1, 1, 1], [1, 1, 1]])
    error(lambda: a + tensor([1, 2]), "+", "(2, 3)", "(2,)")


def test_shapes():
    a = counting(2, 3, 4)
    assert a.reshape(6, -1).shape == (6, 4) and a.reshape((4, 6)).shape == (4, 6)
    assert a.flatten(1).shape == (2, 12)
    assert a.permute(2, 0, 1).shape == (4, 2, 3)
    assert a.transpose(0, -1)[3, 1].tolist() == [7, 19]
    assert a.T[0].tolist() == [[0, 12], [4, 16], [8, 20]]
    error(lambda: a.reshape(5, -1), "(2, 3, 4)", "(5, -1)")


def test_indexing():
    a = counting(3, 4)
    assert a[1].tolist() == [4, 5, 6, 7]
    assert a[-1, -1].item() == 11
    assert a[:2, 1:3].tolist() == [[1, 2], [5, 6]]
    assert a[::2, 3].tolist() == [3, 11]
    assert [row.tolist() for row in a[:, :1]] == [[0], [4], [8]]
    error(lambda: a[3], "3", "(3, 4)")


def test_reductions():
    a = tensor([[1, 5, 3], [4, 2, 6]])
    assert a.sum().item() == 21 and a.max().item() == 6
    close(a.mean(0), [2.5, 3.5, 4.5])
    close(a.amax(1, True), [[5], [6]])
    close(a.argmax(1), [1, 2])
    close(counting(2, 3, 4).sum((0, 2)), [60, 92, 124])
    error(lambda: a.sum(2), "sum", "2")


def test_functions():
    a = tensor([1, 4])
    close(a.exp().log() + a.sqrt(), [2, 6])
    close((a - 2).relu(), [0, 2])
    close(tensor([1000, 1000]).softmax(0), [0.5, 0.5])
    close(tensor([[0, 1], [2, 0]]).softmax(-1).sum(1), [1, 1])
    x = ones((1000,)).dropout(0.25)
    assert 600 < (x > 0).sum().item() < 850 and abs(x.max().item() - 4 / 3) < 1e-6
    assert ones((4,)).dropout(0.5, False).tolist() == [1, 1, 1, 1]


def test_activations():
    x = tensor([-4, -1, 0, 1, 7])
    close(x.relu6(), [0, 0, 0, 1, 6])
    close(x.leaky_relu(0.5), [-2, -0.5, 0, 1, 7])
    close(x.elu(2.0), [-1.963369, -1.264241, 0, 1, 7])
    close(x.gelu(), [-0.000127, -0.158655, 0, 0.841345, 7], 1e-4)
    close(x.gelu("tanh"), [-0.00007, -0.158808, 0, 0.841192, 7], 1e-4)
    close(x.silu(), [-0.071945, -0.268941, 0, 0.731059, 6.993623])
    close(x.hardsigmoid(), [0, 1 / 3, 0.5, 2 / 3, 1])
    close(x.hardswish(), [0, -1 / 3, 0, 2 / 3, 7])
    close(x.softplus(), [0.01815, 0.313262, 0.693147, 1.313262, 7.000911])
    close(x.softplus(2.0, 1.0)[3:], [1, 7])
    close(x.tanh(), [-0.999329, -0.761594, 0, 0.761594, 0.999998])
    close(tensor([-1000, 0, 1000]).sigmoid(), [0, 0.5, 1])
    close(tensor([[0, 0], [1000, 1000]]).log_softmax(1), [[-0.693147] * 2] * 2)


def test_linear_and_embedding():
    weight = tensor([[1, 0], [0, 1], [1, 1]])
    close(tensor([2, 5]).linear(weight), [2, 5, 7])
    close(zeros(2, 1, 2).linear(weight, tensor([1, 2, 3])), [[[1, 2, 3]], [[1, 2, 3]]])
    assert zeros(0, 2).linear(weight).shape == (0, 3)
    close(tensor([[2, 0]]).embedding(weight), [[[1, 1], [1, 0]]])
    error(lambda: zeros(2, 3).linear(weight), "linear", "(2, 3)", "(3, 2)")
    error(lambda: zeros(2, 2).linear(weight, zeros(2)), "bias (2,)", "(3, 2)")
    error(lambda: tensor([-1]).embedding(weight), "index -1", "0 to 2")


def test_layer_norm():
    x = tensor([[1, 3, 5], [2, 2, 2]])
    a = 1.5**0.5
    close(x.layer_norm((3,), eps=0.0001), [[-a, 0, a], [0, 0, 0]], 1e-4)
    y = x.layer_norm((2, 3), ones(2, 3) * 2, ones(2, 3))
    assert abs(y.mean().item() - 1) < 1e-5 and y.shape == (2, 3)
    error(lambda: x.layer_norm((2,)), "layer_norm", "(2, 3)", "(2,)")
    error(lambda: x.layer_norm((3,), ones(2)), "layer_norm", "weight or bias (2,)", "(3,)")


def test_normal_numbers():
    x = zeros(3000).normal_(1.0, 2.0)
    centred = x - x.mean()
    assert abs(x.mean().item() - 1) < 0.2 and abs((centred * centred).mean().item() - 4) < 0.5


def test_matmul():
    a = tensor([[1, 2], [3, 4], [5, 6]])
    close(a @ tensor([[1, 0, 2], [0, 1, 1]]), [[1, 2, 4], [3, 4, 10], [5, 6, 16]])
    batch = counting(2, 3, 2)
    product = batch @ tensor([[1], [1]])
    close(product, [[[1], [5], [9]], [[13], [17], [21]]])
    assert (counting(4, 1, 2, 3) @ counting(5, 3, 2)).shape == (4, 5, 2, 2)
    error(lambda: a @ a, "matmul", "(3, 2) and (3, 2)")


def test_pad():
    a = tensor([[1, 2], [3, 4]])
    close(a.pad((1, 0, 0, 1), 9), [[9, 1, 2], [9, 3, 4], [9, 9, 9]])


def test_conv1d():
    x = tensor([[[1, 2, 3, 4]]])
    w = tensor([[[1, 0, -1]]])
    close(x.conv1d(w), [[[-2, -2]]])
    close(x.conv1d(w, tensor([10]), stride=2, padding=1), [[[8, 8]]])
    close(x.conv1d(tensor([[[1, 1]]]), dilation=3), [[[5]]])
    error(lambda: x.conv1d(tensor([[[1], [1]]])), "conv1d", "(1, 1, 4)", "(1, 2, 1)")
    error(lambda: x.conv1d(zeros((1, 1, 5))), "kernel (5,)", "(1, 1, 4)")
    error(lambda: x.conv1d(w, tensor([1, 2])), "bias (2,)")


def test_padding_by_name():
    x = tensor([[[1, 2, 3, 4]]])
    close(x.conv1d(ones(1, 1, 3), padding="same"), [[[3, 6, 9, 7]]])
    close(x.conv1d(ones(1, 1, 2), padding="same"), [[[3, 5, 7, 4]]])  # more at the end
    close(x.conv1d(ones(1, 1, 2), padding="valid"), [[[3, 5, 7]]])
    assert ones(1, 1, 4, 5).conv2d(ones(2, 1, 2, 3), padding="same").shape == (1, 2, 4, 5)
    error(lambda: x.conv1d(ones(1, 1, 2), stride=2, padding="same"), "'same'", "stride (2,)")
    error(lambda: x.conv1d(ones(1, 1, 2), padding="full"), "'full'")


def test_conv2d_depthwise():
    x = counting(1, 2, 3, 3)
    w = tensor([[[[1, 0], [0, 1]]], [[[0, 1], [1, 0]]]])
    close(x.conv2d(w, groups=2), [[[[4, 6], [10, 12]], [[22, 24], [28, 30]]]])
    close(x.conv2d(tensor([[[[1]], [[1]]]]), stride=2), [[[[9, 13], [21, 25]]]])


def test_pools():
    x = tensor([[[1, 5, 2, 4, 3]]])
    close(x.max_pool1d(2), [[[5, 4]]])
    close(x.max_pool1d(3, 2, 1), [[[5, 5, 4]]])
    close(x.avg_pool1d(2, 1), [[[3, 3.5, 3, 3.5]]])
    close(x.avg_pool1d(3, 2, 1), [[[2, 11 / 3, 7 / 3]]])
    image = counting(1, 1, 2, 4)
    close(image.max_pool2d((2, 2)), [[[[5, 7]]]])
    close(image.avg_pool2d(2), [[[[2.5, 4.5]]]])
    error(lambda: x.max_pool1d(2, 2, 2), "padding (2,)", "kernel (2,)")
    close(x.adaptive_avg_pool1d(2), [[[8 / 3, 3]]])
    close(x.adaptive_avg_pool1d(1), [[[3]]])
    close(image.adaptive_avg_pool2d((1, None)), [[[[2, 3, 4, 5]]]])
    error(lambda: x.adaptive_avg_pool2d(1), "adaptive_avg_pool2d", "(1, 1, 5)", "(1, 1)")
    error(lambda: x.max_pool2d(2), "max_pool2d", "(1, 1, 5)")


def test_batch_norm():
    x = tensor([[[1, 3], [10, 20]], [[5, 7], [30, 40]]])
    mean, var = zeros((2,)), ones((2,))
    gain, bias = tensor([1, 2]), tensor([0, 1])
    y = x.batch_norm(mean, var, gain, bias, True, 0.1, 0.0)
    a = 1 / 5**0.5
    close(y, [[[-3 * a, -a], [1 - 6 * a, 1 - 2 * a]], [[a, 3 * a], [1 + 2 * a, 1 + 6 * a]]])
    close(mean, [0.4, 2.5])
    close(var, [0.9 + 2 / 3, 0.9 + 50 / 3])
    close(x.batch_norm(zeros((2,)), ones((2,)), gain, bias, False, 0.1, 0.0)[0, 1], [21, 41])


def test_batch_norm_that_averages_all_batches():
    mean, var, count = zeros((1,)), ones((1,)), zeros(())
    for start in (0, 4):
        x = tensor([[start], [start + 2]])
        y = x.batch_norm(mean, var, None, None, True, None, 0.0, count)
        close(y, [[-1], [1]])
    assert count.item() == 2
    close(mean, [3])
    close(var, [2])
    close(tensor([[1], [3]]).batch_norm(None, None, eps=0.0), [[-1], [1]])


def test_tensors_of_nothing():
    assert tensor([]).shape == (0,) and tensor([[], []]).shape == (2, 0)
    x = zeros(0, 3)
    assert x.sum(0).tolist() == [0, 0, 0] and x.sum().item() == 0 and x.sum(1).shape == (0,)
    assert zeros(0, 2, 9).flatten(1).shape == (0, 18) and tensor(1.0).flatten().shape == (1,)
    error(lambda: x.reshape(0, -1), "(0, 3)", "(0, -1)")
    error(lambda: ones(2, 2).reshape(-2, -2), "(2, 2)", "(-2, -2)")
    error(lambda: ones(2, 2).sum((0, -2)), "sum", "twice")
    assert ones(2, 3).permute((1, 0)).shape == (3, 2)
