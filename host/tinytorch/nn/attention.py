"""Attention and the Transformer's encoder, for the laptop only: a kit does not run them.

Sequences are (L, N, d_model), or (N, L, d_model) with batch_first, or (L, d_model).
(Vaswani et al., 2017.)
"""

import copy
import math
from collections.abc import Callable

import numpy as np

from tinytorch import ops
from tinytorch.autograd.tape import apply
from tinytorch.autograd.tensor import Tensor
from tinytorch.nn import functional, init
from tinytorch.nn.layers import Dropout, LayerNorm, Linear, ModuleList
from tinytorch.nn.module import Module, Parameter


class MultiheadAttention(Module):
    """Attention of num_heads heads side by side, each on its part of embed_dim.

    kdim, vdim: the widths of key and value if not embed_dim. A kit does not run it.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
        kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim {embed_dim} does not divide into {num_heads} heads."
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first
        self.in_proj_weight: Parameter | None = None
        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = self._xavier(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = self._xavier(embed_dim, embed_dim)
            self.k_proj_weight = self._xavier(embed_dim, self.kdim)
            self.v_proj_weight = self._xavier(embed_dim, self.vdim)
        self.in_proj_bias = Parameter(self.Tensor.zeros((3 * embed_dim,))) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def _xavier(self, out: int, inputs: int) -> Parameter:
        return Parameter(init.xavier_uniform_(self.Tensor.zeros((out, inputs))))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None,
        average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """The result in the query's shape, and the weights (N, L, S), or None.

        Weights of each head, (N, heads, L, S), without average_attn_weights. key_padding_mask
        (N, S) and attn_mask (L, S) or (N * heads, L, S): bools, True for keys that are left out,
        or floats to add. is_causal without an attn_mask: a query attends to no later key.
        """
        single = query.ndim == 2
        if single:
            dim = 0 if self.batch_first else 1
            is_self = query is key and key is value
            query, key, value = (_with(t, dim) for t in (query, key, value))
            key, value = (query, query) if is_self else (key, value)
        self._check(query, key, value)
        time = 1 if self.batch_first else 0
        n, length, keys = query.shape[1 - time], query.shape[time], key.shape[time]
        mask = self._mask(key_padding_mask, attn_mask, (n, length, keys))
        causal = is_causal and attn_mask is None
        packed = query is key and key is value and self.in_proj_weight is not None
        dropout = self.dropout if self.training else 0.0
        if packed and not need_weights and not dropout:
            assert self.in_proj_weight is not None
            x = query.linear(self.in_proj_weight, self.in_proj_bias)
            y = apply(
                ops.self_attention, x, mask, heads=self.num_heads, causal=causal,
                batch_first=self.batch_first,
            )  # fmt: skip
            weights = None
        else:
            q, k, v = self._heads(query, key, value)
            scale = q.shape[-1] ** -0.5
            if need_weights or dropout:
                weights = functional._attention_weights(q, k, mask, scale, causal)
                weights = weights.dropout(dropout)
                y = weights @ v
            else:
                weights = None
                y = apply(ops.attention, q, k, v, mask, scale=scale, causal=causal)
            y = y.permute(0, 2, 1, 3) if self.batch_first else y.permute(2, 0, 1, 3)
            y = y.reshape(*query.shape)
        y = self.out_proj(y)
        if not need_weights:
            weights = None
        elif weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if single:
            y = y.reshape(length, self.embed_dim)
            weights = None if weights is None else weights.reshape(*weights.shape[1:])
        return y, weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        time = 1 if self.batch_first else 0
        widths = (self.embed_dim, self.kdim, self.vdim)
        given = (query.shape, key.shape, value.shape)
        fit = all(len(s) == 3 and s[2] == w for s, w in zip(given, widths, strict=True))
        if not fit or given[1][:2] != given[2][:2] or given[0][1 - time] != given[1][1 - time]:
            raise ValueError(
                f"MultiheadAttention: query {given[0]}, key {given[1]} and value {given[2]} do not "
                f"fit embed_dim {widths[0]}, kdim {widths[1]} and vdim {widths[2]}."
            )

    def _heads(self, *inputs: Tensor) -> list[Tensor]:
        """Queries, keys and values, (N, heads, L, d) each."""
        e, results = self.embed_dim, []
        for i, (x, name) in enumerate(zip(inputs, "qkv", strict=True)):
            part = slice(i * e, (i + 1) * e)
            if self.in_proj_weight is None:
                weight = getattr(self, name + "_proj_weight")
            else:
                weight = self.in_proj_weight[part]
            y = x.linear(weight, None if self.in_proj_bias is None else self.in_proj_bias[part])
            y = y.reshape(*y.shape[:2], self.num_heads, e // self.num_heads)
            results.append(y.permute(0, 2, 1, 3) if self.batch_first else y.permute(1, 2, 0, 3))
        return results

    def _mask(
        self, padding: Tensor | None, attn: Tensor | None, sizes: tuple[int, int, int]
    ) -> Tensor | None:
        """Both masks as the one of ops.attention, broadcastable to (N, heads, L, S)."""
        n, length, keys = sizes
        heads = self.num_heads
        masks = []
        if padding is not None:
            if padding.shape != (n, keys) and not (n == 1 and padding.shape == (keys,)):
                raise ValueError(
                    f"MultiheadAttention: key_padding_mask {padding.shape} is not {(n, keys)}."
                )
            masks.append(_keep_mask(padding, (n, 1, 1, keys)))
        if attn is not None:
            known = {(length, keys): (1, 1), (n * heads, length, keys): (n, heads)}
            if attn.shape not in known:
                raise ValueError(
                    f"MultiheadAttention: attn_mask {attn.shape} is not {(length, keys)} or "
                    f"{(n * heads, length, keys)}."
                )
            masks.append(_keep_mask(attn, (*known[attn.shape], length, keys)))
        if len(masks) < 2:
            return masks[0] if masks else None
        if all(m.dtype.kind == "b" for m in masks):
            return Tensor(masks[0].data & masks[1].data)
        return functional._added_mask(masks[0]) + functional._added_mask(masks[1])


def _keep_mask(mask: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A mask in another shape; bools, True for what is left out, as True for what is kept.

    Bools are data, not results: they are looked at here, and a captured step stays captured.
    """
    return Tensor(~mask.data.reshape(shape)) if mask.dtype.kind == "b" else mask.reshape(shape)


def _with(t: Tensor, dim: int) -> Tensor:
    """The same numbers with a dimension of one."""
    return t.reshape(*t.shape[:dim], 1, *t.shape[dim:])


class TransformerEncoderLayer(Module):
    """Attention of a sequence to itself and two Linear, each with a norm and added to its input.

    activation: "relu", "gelu", or a function of a Tensor. norm_first: the norms come before instead
    of after (Xiong et al., 2020). A kit does not run it.
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu", layer_norm_eps: float = 1e-5,
        batch_first: bool = False, norm_first: bool = False, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        functions: dict[str, Callable[[Tensor], Tensor]] = {
            "relu": functional.relu,
            "gelu": functional.gelu,
        }
        if isinstance(activation, str) and activation not in functions:
            raise ValueError(
                f'TransformerEncoderLayer: activation {activation!r} is not "relu" or "gelu"; '
                "give a function for another."
            )
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
        self.linear1 = Linear(d_model, dim_feedforward, bias)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)
        self.activation: Callable[[Tensor], Tensor] = (
            functions[activation] if isinstance(activation, str) else activation
        )

    def forward(
        self, src: Tensor, src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None, is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """Masks as in MultiheadAttention."""
        masks = (src_key_padding_mask, src_mask, is_causal)
        if self.norm_first:
            x = src + self._attend(self.norm1(src), *masks)
            return x + self._feed(self.norm2(x))
        x = self.norm1(src + self._attend(src, *masks))
        return self.norm2(x + self._feed(x))

    def _attend(
        self, x: Tensor, padding: Tensor | None, mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        y, _ = self.self_attn(
            x, x, x, key_padding_mask=padding, need_weights=False, attn_mask=mask,
            is_causal=is_causal,
        )  # fmt: skip
        return self.dropout1(y)

    def _feed(self, x: Tensor) -> Tensor:
        return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))


class TransformerEncoder(Module):
    """num_layers copies of a layer one after another, then a norm if there is one.

    enable_nested_tensor: taken as in PyTorch; padded times are computed all the same. A kit does
    not run it.
    """

    def __init__(
        self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Module | None = None,
        enable_nested_tensor: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self, src: Tensor, mask: Tensor | None = None, src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:  # fmt: skip
        """Masks as in MultiheadAttention."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


# PyTorch has no layers for positions: these two are our own.


class _Positions(Module):
    table: Tensor

    def __init__(self, max_len: int, batch_first: bool) -> None:
        super().__init__()
        self.max_len = max_len
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        """x, (L, N, d_model) or as batch_first and ndim say, plus a row of the table each time."""
        time = x.ndim - 2 if self.batch_first else 0
        length = x.shape[time]
        if x.shape[-1] != self.table.shape[1] or length > self.max_len:
            raise ValueError(
                f"{type(self).__name__}: input {x.shape} does not fit d_model "
                f"{self.table.shape[1]} and max_len {self.max_len}."
            )
        rows = self.table[:length]
        return x + (rows if time == x.ndim - 2 else rows.reshape(length, 1, -1))

    def extra_repr(self) -> str:
        return f"{self.table.shape[1]}, max_len={self.max_len}, batch_first={self.batch_first}"


class SinusoidalPositionalEncoding(_Positions):
    """Adds sines and cosines of each time to the inputs, of wavelengths from 2 pi to 10000 * 2 pi.

    Not in PyTorch. Not trained, and not in the state. A kit does not run it.
    """

    def __init__(self, d_model: int, max_len: int = 5000, batch_first: bool = False) -> None:
        super().__init__(max_len, batch_first)
        angles = np.arange(max_len)[:, None] * np.exp(
            np.arange(0, d_model, 2) * (-math.log(10000) / d_model)
        )
        table = np.zeros((max_len, d_model), np.float32)
        table[:, 0::2] = np.sin(angles)
        table[:, 1::2] = np.cos(angles[:, : d_model // 2])
        self.register_buffer("table", Tensor(table), persistent=False)


class LearnedPositionalEncoding(_Positions):
    """Adds a trained row for each time to the inputs, N(0, 0.02) at the start.

    Not in PyTorch. A kit does not run it.
    """

    def __init__(self, d_model: int, max_len: int = 512, batch_first: bool = False) -> None:
        super().__init__(max_len, batch_first)
        self.table = Parameter(init.normal_(self.Tensor.zeros((max_len, d_model)), std=0.02))
