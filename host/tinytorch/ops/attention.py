"""The operations of attention, on separate arrays or on the packed result of one product.

(Vaswani et al., 2017.)
"""

import numpy as np

from tinytorch.ops import memory
from tinytorch.ops.array import Array, Result
from tinytorch.ops.layers import _contiguous, _rows, _softmax, _softmax_of_x


def attention(
    q: Array, k: Array, v: Array, mask: Array | None, *, scale: float, causal: bool
) -> Result:
    """softmax(q kT scale) v: q (..., L, d), k (..., S, d), v (..., S, dv) -> (..., L, dv).

    mask, broadcastable to (..., L, S): bools, True where a query may attend, or floats to add.
    causal: a query attends to no later key. A query that may attend to nothing gets zeros, as in
    PyTorch. (Vaswani et al., 2017.)
    """
    factor = q.dtype.type(scale)
    p = _product(q, k.swapaxes(-1, -2))
    p *= factor
    if causal:
        p += np.triu(np.full(p.shape[-2:], -np.inf, q.dtype), 1)
    if mask is not None:
        added = np.where(mask, 0, -np.inf).astype(q.dtype) if mask.dtype == bool else mask
        p = _contiguous(p + added)
        lost = p.max(-1, keepdims=True, initial=-np.inf) == -np.inf
        np.copyto(p, 0, where=lost)
    rows = _rows(p)
    _softmax(rows, rows)
    if mask is not None:
        np.copyto(p, 0, where=lost)

    def gradients(g: Array) -> tuple[Array | None, ...]:
        of_scores = memory.empty(p.shape, q.dtype)
        _softmax_of_x(_rows(_product(g, v.swapaxes(-1, -2))), rows, _rows(of_scores))
        of_mask = of_scores.copy() if mask is not None and mask.dtype.kind == "f" else None
        of_scores *= factor
        of_q = _product(of_scores, k, like=q)
        of_k = _product(of_scores.swapaxes(-1, -2), q, like=k)
        return of_q, of_k, _product(p.swapaxes(-1, -2), g, like=v), of_mask

    return _product(p, v, like=q), gradients


def _product(a: Array, b: Array, like: Array | None = None) -> Array:
    """a @ b, in memory in the order of `like` if it has its shape: of heads that lie side by side
    what comes out does too."""
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    if like is not None and like.shape == shape:
        return np.matmul(a, b, out=memory.empty_like(like))
    return np.matmul(a, b, out=memory.empty(shape, a.dtype))


def self_attention(
    x: Array, mask: Array | None, *, heads: int, causal: bool, batch_first: bool
) -> Result:
    """`attention` of all heads: x (N, L, 3 * E) holds queries, keys and values -> (N, L, E).

    Without batch_first (L, N, 3 * E) -> (L, N, E). mask: broadcastable to (N, heads, L, L).
    """
    a, b, width = x.shape
    apart = (a, b, 3, heads, width // 3 // heads)
    order = (2, 0, 3, 1, 4) if batch_first else (2, 1, 3, 0, 4)
    there, back = ((0, 2, 1, 3),) * 2 if batch_first else ((1, 2, 0, 3), (2, 0, 1, 3))
    q, k, v = x.reshape(apart).transpose(order)
    y, of_each = attention(q, k, v, mask, scale=apart[-1] ** -0.5, causal=causal)
    assert callable(of_each)

    def gradients(g: Array) -> tuple[Array | None, ...]:
        result = memory.empty(x.shape, x.dtype)
        *parts, of_mask = of_each(g.reshape(a, b, *apart[3:]).transpose(there))
        for place, part in zip(result.reshape(apart).transpose(order), parts, strict=True):
            place[...] = part
        return result, of_mask

    return y.transpose(back).reshape(a, b, width // 3), gradients
