"""Parameters and multiply-adds of the restorers, counted on the meta device: no weights, no memory, any size.

One multiply-add is 2 FLOP. The paper's figures leave out the two matrix products inside attention; both counts are
given here, because at 2880 x 2880 those products are 85% of the work with full attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from gendrpix.models.attention import attend_as
from gendrpix.models.codecs import LatentCodec
from gendrpix.models.networks import build_autoencoder, build_unet
from gendrpix.specs import MODEL_SPECS, PATCH, RESTORER_SPECS, ModelSpec, RestorerSpec


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one restoration of one picture takes."""

    parameters: int
    """Of all that runs: the UNet, and the halves of the autoencoder that the restorer uses."""
    unet_parameters: int
    macs: int
    """Multiply-adds without attention's two matrix products, as the paper counts."""
    attention_macs: int
    """Multiply-adds of those products."""

    @property
    def total_macs(self) -> int:
        """Multiply-adds with attention's products."""
        return self.macs + self.attention_macs


def count(model: str, restorer: str, height: int, width: int, *, guided: bool = False, attention: str = "full") -> Cost:
    """The cost of one restoration to `height` x `width` pixels; `guided` is PadCFG's two padded passes.

    `attention` is a kind of `gendrpix.models.attention`. Raises ValueError for an unknown one and for sides that are no
    multiple of 8.
    """
    if height % PATCH or width % PATCH or height <= 0 or width <= 0:
        raise ValueError(f"Costs are counted for sides that are multiples of {PATCH}; got {height} x {width}.")
    spec, role = MODEL_SPECS[model], RESTORER_SPECS[restorer]
    extra = PATCH if guided else 0
    with torch.device("meta"):
        pixels = torch.empty(2 if guided else 1, 3, height + extra, width + extra)
        parts = _parts(spec, role, pixels, attention)
    counted = [_count_call(run) for run, _ in parts.values()]
    sizes = {name: sum(p.numel() for p in module.parameters()) for name, (_, module) in parts.items()}
    return Cost(
        parameters=sum(sizes.values()),
        unet_parameters=sizes["unet"],
        macs=sum(macs for macs, _ in counted),
        attention_macs=sum(attention for _, attention in counted),
    )


def _parts(
    spec: ModelSpec, role: RestorerSpec, pixels: Tensor, attention: str
) -> Mapping[str, tuple[Callable[[], object], torch.nn.Module]]:
    """Name => (call, module) of all that the restorer runs on `pixels`."""
    batch, _, height, width = pixels.shape
    in_channels, out_channels = role.channels(spec)
    unet = build_unet(spec, in_channels, out_channels)
    attend_as(spec, unet, attention)
    hidden = torch.empty(batch, in_channels, height // PATCH, width // PATCH)
    prompt = torch.empty(batch, spec.prompt_tokens, spec.prompt_channels)
    parts: dict[str, tuple[Callable[[], object], torch.nn.Module]] = {
        "unet": (lambda: unet(hidden, spec.timestep, prompt), unet)
    }
    if "latent" in (role.reads, role.writes):
        autoencoder = build_autoencoder(spec)
        codec = LatentCodec(autoencoder)
        latent = torch.empty(batch, spec.latent_channels, height // PATCH, width // PATCH)
        if role.reads == "latent":
            parts["encoder"] = (lambda: codec.encode(pixels), autoencoder.encoder)
        if role.writes == "latent":
            parts["decoder"] = (lambda: codec.decode(latent), autoencoder.decoder)
    return parts


def _count_call(run: Callable[[], object]) -> tuple[int, int]:
    """(multiply-adds without attention's products, those of the products) of one call on the meta device."""
    products = _AttentionProducts()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter, products:
        run()
    return counter.get_total_flops() // 2, products.macs


class _AttentionProducts(TorchFunctionMode):
    """Counts scaled dot-product attention's two products and leaves them out, whatever kernel would compute them."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count and replace attention; pass everything else on."""
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        named = dict(zip(("query", "key", "value"), args, strict=False)) | dict(kwargs)
        query, key, value = named["query"], named["key"], named["value"]
        rows = query.numel() // query.shape[-1]
        self.macs += rows * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        return query.new_empty(*query.shape[:-1], value.shape[-1])


def format_info(size: int = 512) -> str:
    """Both families' parameters and multiply-adds at `size` x `size` pixels, as a plain-text table."""
    columns = ("mult-adds", "attention", "with it", "windows", "with them")
    head = f"{'':13}{'UNet':>11}{'all':>11}" + "".join(f"{column:>12}" for column in columns)
    lines = [
        f"Counted on the meta device for a {size} x {size} output. 'mult-adds' leaves attention's matrix products out,",
        "as the paper does; 'with it' counts them for full attention, 'with them' for attention in windows.",
        "1 multiply-add = 2 FLOP.",
    ]
    for model in MODEL_SPECS:
        lines += ["", model, head]
        for name, role in RESTORER_SPECS.items():
            for guided in (False, True) if role.guided else (False,):
                label = role.label + ("" if guided or not role.guided else "*")
                costs = [count(model, name, size, size, guided=guided, attention=kind) for kind in ("full", "window")]
                lines.append(_row(label, *costs))
    lines += ["", "GenDR-Pix is PadCFG's two passes on the picture padded by 8; GenDR-Pix* is one unpadded pass."]
    return "\n".join(lines)


def _row(label: str, cost: Cost, windowed: Cost) -> str:
    sizes = "".join(f"{number / 1e6:>10.2f}M" for number in (cost.unet_parameters, cost.parameters))
    work = (cost.macs, cost.attention_macs, cost.total_macs, windowed.attention_macs, windowed.total_macs)
    return f"{label:13}{sizes}" + "".join(f"{_with_unit(number):>12}" for number in work)


def _with_unit(macs: int) -> str:
    return f"{macs / 1e12:.2f} T" if macs >= 1e12 else f"{macs / 1e9:.1f} G"
