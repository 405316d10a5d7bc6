"""`stroke_transformer`: reads the points themselves, not a picture of them.

A transformer encoder (Vaswani et al., "Attention is all you need", 2017; norms before, as Xiong
et al., 2020) over the points in the order they were drawn; about 1.3 million weights. A drawing
has 45 points on average and a batch of 64 one of 140 or more: attention runs on the padded
batch, all else on the points that exist, which is two thirds less work.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

ROUND_TO = 16
"""Lengths are rounded up to a multiple of this, so that few different shapes occur."""

_NEIGHBOURS = (-2, -1, 1, 2)
_OCTAVES = (1, 2, 4, 8)
_PERIODS = (8, 32, 128, 512)
FEATURES = 5 + 4 * len(_NEIGHBOURS) + 4 * len(_OCTAVES) + 2 * len(_PERIODS)


def read_slots(slots: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Takes the encoding `points` apart: float [N, 3, S, S], values 0..1.

    Slot i, row by row, is point i: x, y, and a pen of 0 (no point: padding, all at the end),
    128/255 (the stroke goes on) or 1 (a stroke begins). Returns xy [N, L, 2] in -1..1, starts
    [N, L] (1 where a stroke begins), present bool [N, L], counts int64 [N]; L is the longest
    drawing of the batch, rounded up to a multiple of 16.
    """
    flat = slots.flatten(2)
    counts = (flat[:, 2] > 0.25).sum(1)
    length = flat.shape[2]
    if not is_exported():  # a graph's shapes do not depend on what is in them
        longest = -(-int(counts.max()) // ROUND_TO) * ROUND_TO
        length = min(max(longest, ROUND_TO), length)
    x, y, pen = flat[:, :, :length].float().unbind(1)
    present = torch.arange(length, device=flat.device) < counts[:, None]
    xy = torch.stack((x, y), dim=2) * 2 - 1
    return xy, (pen > 0.75).float(), present, counts


def is_exported() -> bool:
    """Whether the network is run to write it as a graph, by either of torch's ways."""
    is_tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return is_tracing or torch.compiler.is_exporting()


def point_features(xy: Tensor, starts: Tensor, present: Tensor, counts: Tensor) -> Tensor:
    """Features of a point for its token: float [N, L, FEATURES] of the values of `read_slots`.

    Where the point is (also as waves of four lengths), whether a stroke begins, where its
    neighbours in time are relative to it (0 if there is none), whether they are there and
    begin a stroke, and when it was drawn, as a share of the drawing and as waves. The last
    feature is 0: it marks a point; the token of the whole drawing has 1.
    """
    length = xy.shape[1]
    there = present.float()
    index = torch.arange(length, device=xy.device, dtype=torch.float32)
    share = index / (counts[:, None] - 1).clamp(min=1)
    parts = [xy, starts[..., None], share[..., None]]
    for shift in _NEIGHBOURS:
        near = _shifted(torch.cat((xy, starts[..., None], there[..., None]), 2), shift)
        offset = (near[..., :2] - xy) * 4 * near[..., 3:]
        parts += [offset, near[..., 2:]]
    for octave in _OCTAVES:
        angle = xy * (octave * math.pi)
        parts += [angle.sin(), angle.cos()]
    for period in _PERIODS:
        angle = index * (2 * math.pi / period)
        wave = torch.stack((angle.sin(), angle.cos()), 1)
        parts.append(wave.expand(xy.shape[0], length, 2))
    parts.append(torch.zeros_like(starts)[..., None])
    return torch.cat(parts, 2)


def _shifted(values: Tensor, shift: int) -> Tensor:
    """values[:, i + shift] at i along axis 1; zeros beyond both ends."""
    length = values.shape[1]
    if shift > 0:
        return functional.pad(values[:, shift:], (0, 0, 0, min(shift, length)))
    return functional.pad(values[:, :shift], (0, 0, min(-shift, length), 0))


class Block(nn.Module):
    """Self-attention and a two-layer network, each behind a norm and added to its input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """float [T, width] of the tokens that exist → the same shape.

        positions: int64 [T], where each stands in the padded batch, row by row; mask: bool
        [N, L], true where a token stands.
        """
        n, length = mask.shape
        qkv = spread(self.qkv(self.attention_norm(tokens)), positions, n * length)
        q, k, v = qkv.view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
        mixed = mixed.transpose(1, 2).reshape(n * length, -1).index_select(0, positions)
        tokens = tokens + self.dropout(self.out(mixed))
        hidden = functional.gelu(self.wide(self.norm(tokens)))
        return tokens + self.dropout(self.narrow(hidden))  # type: ignore[no-any-return]


def spread(tokens: Tensor, positions: Tensor, size: int) -> Tensor:
    """Tokens [T, D] at their positions among `size` rows of zeros: [size, D]."""
    return tokens.new_zeros(size, tokens.shape[1]).index_copy(0, positions, tokens)


class StrokeTransformer(nn.Module):
    """The network: float [N, 3, S, S] in the encoding `points` → logits float [N, classes]."""

    def __init__(
        self,
        classes: int,
        width: int = 160,
        depth: int = 6,
        heads: int = 5,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, width)
        self.embed_more = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, slots: Tensor) -> Tensor:
        """float [N, 3, S, S], values 0..1 as `read_slots` says → logits float [N, classes]."""
        xy, starts, present, counts = read_slots(slots)
        features = point_features(xy, starts, present, counts)
        # A token of its own stands before the points, so that an empty drawing has one too.
        features = functional.pad(features, (0, 0, 1, 0))
        features[:, 0, -1] = 1
        mask = functional.pad(present, (1, 0), value=True)
        n, length = mask.shape
        if is_exported():  # all of them; padding is ignored
            positions = torch.arange(n * length, device=slots.device)
        else:
            positions = mask.flatten().nonzero().squeeze(1)
        tokens = features.flatten(0, 1).index_select(0, positions)
        tokens = self.embed_more(functional.gelu(self.embed(tokens)))
        for block in self.blocks:
            tokens = block(tokens, positions, mask)
        padded = spread(self.norm(tokens), positions, n * length).view(n, length, -1)
        mean = (padded * mask[:, :, None]).sum(1) / (counts + 1)[:, None]
        return self.head(self.dropout(mean))  # type: ignore[no-any-return]
