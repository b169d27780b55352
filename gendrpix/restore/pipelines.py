"""The three restorers as diffusers pipelines, and what they give back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.utils import BaseOutput
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from gendrpix.image.picture import Picture, cut
from gendrpix.image.read import open_picture
from gendrpix.image.write import to_pil
from gendrpix.models.codecs import codec_for
from gendrpix.models.networks import Autoencoder, split_feed_forward
from gendrpix.models.speedups import speed_up
from gendrpix.restore.restorer import OneStepRestorer, enlarged_alpha
from gendrpix.settings.restoration import RestoreSettings, checked_speedups
from gendrpix.specs import (
    DEFAULT_SPEEDUPS,
    FORMAT_VERSION,
    RESTORER_SPECS,
    ColorFix,
    Offset,
    Speedup,
    TileChoice,
    find_restorer,
)
from gendrpix.weights.hub import CardFacts, own_card, upload
from gendrpix.weights.load import (
    check_listed,
    find_folder,
    find_restorer_folder,
    load_autoencoder,
    load_model,
    load_prompts,
    read_settings,
)

Restored = list[PIL.Image.Image] | NDArray[np.float32] | Tensor


@dataclass
class RestorationOutput(BaseOutput):
    """What a restorer returns.

    images: list of PIL pictures, (B, H, W, 3) float32 array in [0, 1], or (B, 3, H, W) tensor in [-1, 1].
    positive, negative: the two guided branches before the mix, (B, 3, H, W) tensors, if they were asked for.
    notes: what was done otherwise than asked for lack of memory, sentences; none twice.
    """

    images: Restored
    positive: Tensor | None = None
    negative: Tensor | None = None
    notes: tuple[str, ...] = ()


def as_output(results: list[Tensor], pictures: list[Picture], output_type: str) -> Restored:
    """Results (1, 3, H, W) in [-1, 1] as "pil", "np" or "pt"; the last two raise ValueError for unequal sizes."""
    if output_type == "pil":
        pairs = zip(results, pictures, strict=True)
        return [to_pil(result, enlarged_alpha(picture, result), picture.grey) for result, picture in pairs]
    stacked = stack(results)
    if output_type == "pt":
        return stacked
    array: NDArray[np.float32] = (stacked.float() / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()
    return array


def stack(results: Sequence[Tensor]) -> Tensor:
    """Results of one size as one batch. Raises ValueError for unequal sizes."""
    sizes = {tuple(result.shape[-2:]) for result in results}
    if len(sizes) > 1:
        raise ValueError(f"The results have different sizes {sorted(sizes)}; ask for output_type='pil', or one by one.")
    return torch.cat(list(results))


MAX_PATTERN_TOKENS = 256
"""Bound of `pattern_tokens`: the work grows with it."""
PROMPTS_FILE = "prompts.safetensors"
ImageInput = Picture | PIL.Image.Image | str | Path | bytes


class RestorerPipeline(OneStepRestorer, DiffusionPipeline):
    """One evaluation of a UNet between two codecs; the subclasses name which.

    `unet`'s ends must have the channels that the restorer's domains have; `prompts` is (2, L, D), the positive and
    the negative embedding; `form` tells how the UNet's output is read (`gendrpix.models.networks.predict`).
    `pattern_tokens` is the side in patches over which a pattern of 8 pixels is told and taken away
    (`gendrpix.models.pattern.without_pattern`): odd, 0 for not at all, as in the paper. `alpha_bar` is the squared
    signal level of the one step, None for the timestep's; `pos_pad` and `neg_pad` are these weights' PadCFG offsets.
    """

    model_cpu_offload_seq = "vae->unet->vae"
    _optional_components: ClassVar[list[str]] = ["vae"]

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: Autoencoder | None = None,
        prompts: Tensor | None = None,
        form: str = "residual",
        timestep: int = 500,
        pattern_tokens: int = 0,
        model: str = "mini",
        format_version: int = FORMAT_VERSION,
        shared_vae: str | None = None,
        alpha_bar: float | None = None,
        pos_pad: Sequence[int] | None = None,
        neg_pad: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        check_format(format_version)
        if prompts is None or prompts.ndim != 3 or prompts.shape[0] != 2:
            got = None if prompts is None else tuple(prompts.shape)
            raise ValueError(f"prompts must be a (2, L, D) tensor, positive and negative embedding; got {got}.")
        if pattern_tokens and not (0 < pattern_tokens < MAX_PATTERN_TOKENS and pattern_tokens % 2):
            raise ValueError(
                f"pattern_tokens is {pattern_tokens}; expected 0, or an odd number below {MAX_PATTERN_TOKENS}."
            )
        self.register_modules(unet=unet, vae=vae)
        self.register_to_config(
            form=form,
            timestep=timestep,
            pattern_tokens=pattern_tokens,
            model=model,
            format_version=format_version,
            shared_vae=shared_vae,
        )
        own = {"alpha_bar": alpha_bar, "pos_pad": pos_pad and list(pos_pad), "neg_pad": neg_pad and list(neg_pad)}
        self.register_to_config(**{name: value for name, value in own.items() if value is not None})
        self.prompts = prompts
        self._attention: str | None = None
        self._reader = codec_for(self.restorer.reads, vae)
        self._writer = codec_for(self.restorer.writes, vae)

    # Loading and saving --------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        vae: Autoencoder | None = None,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
    ) -> Self:
        """Load from a folder or a hub id. An autoencoder shared by several restorers is found beside the folder.

        Nothing but safetensors and known classes is loaded, and only where all fits: `gendrpix.weights.verify`. Raises
        ValueError.
        """
        folder = find_folder(pretrained_model_name_or_path, revision=revision)
        check_listed(folder)
        settings = read_settings(folder, cls.__name__)
        check_format(settings["format_version"])
        prompts = load_prompts(folder / PROMPTS_FILE)
        own_vae = folder / (settings["shared_vae"] or "vae")
        if vae is None and "latent" in (cls.restorer.reads, cls.restorer.writes):
            vae = load_autoencoder(own_vae, dtype)
        unet = load_model(folder / "unet", UNet2DConditionModel, dtype)
        pipeline = cls(unet=unet, vae=vae, prompts=prompts, **settings)
        pipeline.folder = folder
        return pipeline

    def save_pretrained(
        self, save_directory: str | Path, *args: Any, shared_vae: str | None = None, **kwargs: Any
    ) -> None:
        """Save as a diffusers folder with the prompt embeddings beside.

        `shared_vae` is the path, relative to the folder, of an autoencoder saved elsewhere; it is not stored again.
        """
        if kwargs.get("push_to_hub"):
            raise ValueError("save_pretrained saves here only; call push_to_hub(repo_id), which uploads all of it.")
        vae = self.vae
        self.register_to_config(shared_vae=shared_vae)
        if shared_vae is not None:
            self.register_modules(vae=None)
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            if shared_vae is not None:
                self.register_modules(vae=vae)
        save_file({"prompts": self.prompts.contiguous()}, Path(save_directory) / PROMPTS_FILE)

    def push_to_hub(self, repo_id: str, *, card: str | None = None, **options: Any) -> str:
        """Upload weights, prompt embeddings and a model card; its address (`gendrpix.weights.hub.upload`).

        card: by default the one that lies beside the weights it was loaded from, else a plain one.
        """
        facts = CardFacts(
            restorer=self.restorer,
            model=self.config.model,
            parameters=sum(parameter.numel() for parameter in self.unet.parameters()),
            has_autoencoder=self.vae is not None,
            form=self.config.form,
            timestep=self.config.timestep,
        )
        with tempfile.TemporaryDirectory(prefix="gendrpix-hub-") as folder:
            self.save_pretrained(folder)
            return upload(Path(folder), repo_id, facts, card=card or own_card(self.folder), **options)

    # Restoring -----------------------------------------------------------------------------------------------------

    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        *,
        scale: float | None = None,
        size_px: int | None = None,
        crop: tuple[int, int, int, int] | None = None,
        guidance: float | None = None,
        pos_pad: Offset | None = None,
        neg_pad: Offset | None = None,
        plain_cfg: bool = False,
        batched: bool = True,
        tile: TileChoice = "auto",
        color_fix: ColorFix = "none",
        return_branches: bool = False,
        output_type: Literal["pil", "np", "pt"] = "pil",
    ) -> RestorationOutput:
        """Restore and enlarge one picture or many, as `gendrpix.settings.restoration.RestoreSettings` says.

        return_branches: give back PadCFG's two branches as well, their colours not corrected.
        output_type: "np" and "pt" need outputs of one size, and carry no alpha.
        """
        settings = RestoreSettings(
            restorer=self.restorer.name,  # type: ignore[arg-type] # a key of RESTORER_SPECS
            scale=scale,
            size_px=size_px,
            crop=crop,
            guidance=guidance,
            pos_pad=pos_pad,
            neg_pad=neg_pad,
            plain_cfg=plain_cfg,
            batched=batched,
            tile=tile,
            color_fix=color_fix,
        )
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type is {output_type!r}, expected 'pil', 'np' or 'pt'.")
        if settings.guidance is None and return_branches:
            raise ValueError("There are no branches without guidance; pass guidance=OMEGA with return_branches=True.")
        opened = [one if isinstance(one, Picture) else open_picture(one) for one in as_list(image)]
        pictures = [one if settings.crop is None else cut(one, settings.crop) for one in opened]
        results = [
            self.run(picture.color, settings, grey=picture.grey, keep_branches=return_branches)
            for picture in self.progress_bar(pictures)
        ]
        self.maybe_free_model_hooks()
        images = as_output([result.pixels for result in results], pictures, output_type)
        notes = tuple(dict.fromkeys(note for result in results for note in result.notes))
        kept = [result.branches for result in results if result.branches is not None]
        if not return_branches:
            return RestorationOutput(images=images, notes=notes)
        positive, negative = (stack(branch) for branch in zip(*kept, strict=True))
        return RestorationOutput(images=images, positive=positive, negative=negative, notes=notes)


def check_format(version: int) -> None:
    """Raise ValueError for weights of another format version than this program reads."""
    if version != FORMAT_VERSION:
        raise ValueError(
            f"These weights have format version {version}; this gendrpix reads version {FORMAT_VERSION}. "
            f"{'Upgrade gendrpix' if version > FORMAT_VERSION else 'Export the weights again'}."
        )


class GenDRPipeline(RestorerPipeline):
    """GenDR: `D(f(E(x)))`, one step in the latent space (arXiv 2503.06790)."""

    restorer = RESTORER_SPECS["gendr"]


class GenDRAdcPipeline(RestorerPipeline):
    """GenDR-Adc: `D(G1(U8(x), t, c))`, no encoder (arXiv 2602.10630)."""

    restorer = RESTORER_SPECS["gendr-adc"]


class GenDRPixPipeline(RestorerPipeline):
    """GenDR-Pix: `S8(G2(U8(x), t, c))`, no autoencoder at all; with guidance, PadCFG (arXiv 2602.10630)."""

    restorer = RESTORER_SPECS["gendr-pix"]


PIPELINES: dict[str, type[RestorerPipeline]] = {
    pipeline.restorer.name: pipeline for pipeline in (GenDRPipeline, GenDRAdcPipeline, GenDRPixPipeline)
}


def load_restorer(
    name: str,
    weights: str | Path = "mini",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    speedups: Sequence[Speedup] = DEFAULT_SPEEDUPS,
) -> RestorerPipeline:
    """The restorer of that name, ready on `device`; `weights` is a bundled family, a folder or a hub id.

    `devices.pick_dtype("auto", device)` is the fastest dtype; `speedups` are those of `gendrpix.models.speedups`.
    Self-attention is "auto" where the family's trained sizes are known (`RestorerPipeline.set_attention`).
    """
    ways = checked_speedups(tuple(speedups))
    folder = find_restorer_folder(find_restorer(name).name, weights)
    loaded = PIPELINES[name].from_pretrained(folder, dtype=dtype)
    loaded.set_progress_bar_config(disable=True)
    split_feed_forward(loaded.unet)
    if loaded.window_tokens:
        loaded.set_attention("auto")
    moved: RestorerPipeline = loaded.to(device)
    speed_up(moved.unet, moved.vae, moved.device, ways)
    return moved


def as_list(image: ImageInput | Sequence[ImageInput]) -> list[ImageInput]:
    """One picture or many, as a list. Raises ValueError for none."""
    images = [image] if isinstance(image, ImageInput) else list(image)
    if not images:
        raise ValueError("No picture was given; pass one or more.")
    return images
