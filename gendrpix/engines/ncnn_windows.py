"""Windows of attention in ncnn: positions are computed as maps of coordinates, which `GridSample` reads at."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gendrpix.engines.ncnn_layers import NcnnNetwork
from gendrpix.engines.windows import WindowedAttention
from gendrpix.models.attention import SAMPLED, SLACK, SPREAD

LONGEST = 16384
"""Most positions along an axis, and the most whose number a float in ncnn has to hold."""
D_W_H = 3
H_D_W = 4
"""Orders of ncnn's `Permute` for four axes: (C, D, H, W) => (C, H, W, D), and back."""


@dataclass
class Axis:
    """The windows along one axis as blobs: vectors as long as their names say, and numbers."""

    size: str
    """A number, as are `side` and `count`."""
    side: str
    count: str
    reads: str
    """(count, side): the positions that each window attends to."""
    owner: str
    """(size,): the window that gives each position its result."""
    inside: str
    """(size,): the position's place in that window."""


def add_attention(net: NcnnNetwork, attention: WindowedAttention, x: str, ramp: str) -> str:
    """`WindowedAttention` on (C, H, W). ramp: a vector of the whole numbers from 0 to LONGEST."""
    projected = net.linear(x, attention.project)
    channels = attention.out.in_features
    if attention.window is None:
        return net.linear(_full(net, attention, projected, channels), attention.out)
    rows, columns = plan_axes(net, attention, x, ramp)
    own = net.binary("mul", rows.side, columns.side)  # positions in a window, a number
    read = net.add("GridSample", [projected, _reading_grid(net, rows, columns)], {0: 2, 1: 2, 2: 0, 3: 1})
    query, key, value = (_by_head(net, part, attention.heads) for part in net.slices(read, [channels] * 3))
    scores = net.add("MatMul", [query, key], {0: 1})  # (heads, windows, own, own)
    if attention.sample is None:
        mixed = net.add("MatMul", [net.softmax(scores, 3), value], {0: 0})
    else:
        both = net.crop(projected, str(channels), str(3 * channels), "0")  # keys and values
        grid = net.constant(far_grid(attention.window, attention.sample))
        sampled = net.add("GridSample", [both, grid], {0: 2, 1: 2, 2: 0, 3: 1})
        far_key, far_value = (_by_head(net, part, attention.heads) for part in net.slices(sampled, [channels] * 2))
        far_scores = net.add("MatMul", [query, far_key], {0: 1})
        rest = net.binary("sub", net.binary("mul", rows.size, columns.size), own)
        stands_for = net.unary("log", net.binary("max", net.binary("div", rest, attention.num_far), 1e-37))
        joint = net.softmax(net.concat([net.binary("add", far_scores, stands_for), scores], 3), 3)
        far, near = net.slices(joint, [attention.num_far, -1], 3)
        mixed = net.binary("add", net.add("MatMul", [near, value], {0: 0}), net.add("MatMul", [far, far_value], {0: 0}))
    merged = net.reshape(net.add("Permute", [mixed], {0: H_D_W}), f"0w,0h,{channels}")
    written = net.add("GridSample", [merged, _writing_grid(net, rows, columns, own)], {0: 2, 1: 2, 2: 0, 3: 1})
    return net.linear(written, attention.out)


def _full(net: NcnnNetwork, attention: WindowedAttention, projected: str, channels: int) -> str:
    """Attention of all positions to all; the queries keep both axes, so that no size has to be known."""
    heads = attention.heads
    query, key, value = (_by_head(net, part, heads) for part in net.slices(projected, [channels] * 3))
    key, value = (
        net.add("Reshape", [part], {0: 0, 1: -1, 11: 1, 2: heads}) for part in (key, value)
    )  # (heads, 1, N, d)
    weights = net.softmax(net.add("MatMul", [query, key], {0: 1}), 3)  # (heads, H, W, N)
    mixed = net.add("Permute", [net.add("MatMul", [weights, value], {0: 0})], {0: H_D_W})
    return net.add("Reshape", [mixed], {0: 0, 1: 0, 2: channels})


def plan_axes(net: NcnnNetwork, attention: WindowedAttention, x: str, ramp: str) -> tuple[Axis, Axis]:
    """The windows of both axes of (C, H, W), as `gendrpix.engines.windows.plan_windows` lays them."""
    window = attention.window
    assert window is not None
    most = (window + SLACK) ** 2
    # 1 where the picture has more positions than in training: a vector of one or of two numbers tells it on.
    cut = net.crop(ramp, "0", f"+(1,min(max(-(*(1w,1h),{most}),0),1))", "0", [x])
    return (
        _plan_axis(net, attention, "1h", x, cut, ramp),
        _plan_axis(net, attention, "1w", x, cut, ramp),
    )


def _plan_axis(net: NcnnNetwork, attention: WindowedAttention, size: str, x: str, cut: str, ramp: str) -> Axis:
    window, shifted = attention.window, int(attention.shifted)
    assert window is not None
    many = f"*(-(2w,1),min(max(-({size},{window + SLACK}),0),1))"
    needed_long = net.crop(ramp, "0", f"+(1,*({many},-(//(+(*(2,{size}),{window}),{2 * window}),1)))", "0", [x, cut])
    half_long = net.crop(ramp, "0", f"+(1,*({shifted},min(-(1w,1),1)))", "0", [needed_long])
    count_long = net.crop(ramp, "0", "+(1w,-(2w,1))", "0", [needed_long, half_long])
    side_long = net.crop(ramp, "0", f"//(-(+({size},2w),1),2w)", "0", [x, needed_long])
    size_long = net.crop(ramp, "0", size, "0", [x])

    def number(vector: str) -> str:
        """A vector's length as a number of its own: the ramp's number at that place."""
        return net.crop(ramp, "1w", "+(1w,1)", "0", [vector])

    size_n, needed, half, side = (
        number(size_long),
        number(needed_long),
        net.binary("sub", number(half_long), 1.0),
        number(side_long),
    )
    twice = net.binary("mul", needed, 2.0)
    last = net.binary("sub", size_n, side)

    def starts(windows: str) -> str:
        borders = net.binary("mul", net.binary("sub", net.binary("mul", windows, 2.0), half), size_n)
        return net.binary("min", net.binary("max", net.floor_divide(borders, twice), 0.0), last)

    ends = net.binary("sub", net.binary("mul", net.binary("add", size_long, 1.0), twice), 1.0)
    owner = net.unary(
        "floor", net.binary("div", net.binary("add", net.binary("add", net.floor_divide(ends, size_n), half), 0.5), 2.0)
    )
    inside = net.binary("sub", size_long, starts(owner))
    lines = net.reshape(starts(count_long), "1,0w")  # (count, 1)
    reads = net.binary("add", lines, net.reshape(side_long, "0w,1"))
    return Axis(size_n, side, number(count_long), reads, owner, inside)


def _reading_grid(net: NcnnNetwork, rows: Axis, columns: Axis) -> str:
    """(2, windows, own) coordinates at which a window's positions lie."""
    across = net.reshape(_centred(net, columns.reads, columns.size), "0w,1,0h,1")  # (1, across, 1, wide)
    down = net.reshape(_centred(net, rows.reads, rows.size), "1,0w,1,0h")  # (down, 1, tall, 1)
    both = [
        net.binary("add", across, net.binary("mul", down, 0.0)),
        net.binary("add", net.binary("mul", across, 0.0), down),
    ]
    return net.concat([net.reshape(one, "*(0w,0h),*(0d,0c),1") for one in both])


def _writing_grid(net: NcnnNetwork, rows: Axis, columns: Axis, own: str) -> str:
    """(2, H, W) coordinates, in (windows, own), at which the result of a position lies."""
    windows = net.binary("mul", rows.count, columns.count)
    down = net.reshape(net.binary("mul", rows.inside, columns.side), "1,0w")
    place = net.binary("add", down, net.reshape(columns.inside, "0w,1"))  # (H, W)
    owner_down = net.reshape(net.binary("mul", rows.owner, columns.count), "1,0w")
    owner = net.binary("add", owner_down, net.reshape(columns.owner, "0w,1"))
    grids = [_centred(net, place, own), _centred(net, owner, windows)]
    return net.concat([net.reshape(one, "0w,0h,1") for one in grids])


def _centred(net: NcnnNetwork, places: str, size: str) -> str:
    """Positions as GridSample's coordinates: (2 * place + 1) / size - 1."""
    twice = net.binary("add", net.binary("mul", places, 2.0), 1.0)
    return net.binary("sub", net.binary("div", twice, size), 1.0)


def _by_head(net: NcnnNetwork, x: str, heads: int) -> str:
    """(heads * d, A, B) => (heads, A, B, d)."""
    split = net.add("Reshape", [x], {0: 0, 1: 0, 11: -1, 2: heads})
    return net.add("Permute", [split], {0: D_W_H})


def far_grid(window: int, sample: int) -> torch.Tensor:
    """(2, 1, F) coordinates of `gendrpix.models.attention.spread`.

    They are shares of the picture's sides, the same for every size.
    """
    count = SAMPLED * window**2
    steps = torch.arange(count) + count * sample + 1
    down, across = ((steps * step % 2**32).double() / 2**32 for step in SPREAD)
    return (torch.stack((across, down))[:, None] * 2 - 1).float()
