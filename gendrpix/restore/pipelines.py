"""The three restorers as diffusers pipelines, and what they give back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
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

from gendrpix.image.color_fix import correct_color, without_chroma
from gendrpix.image.picture import Picture
from gendrpix.image.read import open_picture
from gendrpix.image.resize import check_output_size, output_size, pad_to_multiple, resize, resize_alpha
from gendrpix.image.write import to_pil
from gendrpix.models.attention import attend_as
from gendrpix.models.codecs import LatentCodec, codec_for
from gendrpix.models.networks import Autoencoder, predict, split_feed_forward
from gendrpix.models.pattern import without_pattern
from gendrpix.models.speedups import speed_up
from gendrpix.restore import guidance as padcfg
from gendrpix.restore.guidance import Branches
from gendrpix.restore.planner import TileChoice, restore_within
from gendrpix.settings.checks import check_color_fix
from gendrpix.specs import (
    DEFAULT_SPEEDUPS,
    FORMAT_VERSION,
    MODEL_SPECS,
    NEG_PAD,
    PATCH,
    POS_PAD,
    RESTORER_SPECS,
    ColorFix,
    Offset,
    RestorerSpec,
    Speedup,
    find_restorer,
)
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


def enlarged_alpha(picture: Picture, result: Tensor) -> Tensor | None:
    """(1, 1, H, W) in [0, 1] at the size of `result` (B, 3, H, W), or None for an opaque picture."""
    height, width = result.shape[-2:]
    return None if picture.alpha is None else resize_alpha(picture.alpha, height, width)


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


class RestorerPipeline(DiffusionPipeline):
    """One evaluation of a UNet between two codecs; the subclasses name which.

    `unet`'s ends must have the channels that the restorer's domains have; `prompts` is (2, L, D), the positive and
    the negative embedding; `form` tells how the UNet's output is read (`gendrpix.models.networks.predict`).
    `pattern_tokens` is the side in patches over which a pattern of 8 pixels is told and taken away
    (`gendrpix.models.pattern.without_pattern`): odd, 0 for not at all, as in the paper. `alpha_bar` is the squared
    signal level of the one step, None for the timestep's; `pos_pad` and `neg_pad` are these weights' PadCFG offsets.
    """

    restorer: ClassVar[RestorerSpec]
    folder: Path | None = None
    """Where it was loaded from."""
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

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload weights, prompt embeddings and a model card; its address (`gendrpix.weights.hub.upload`)."""
        from gendrpix.weights.hub import upload

        return upload(self, repo_id, **options)

    # Options -------------------------------------------------------------------------------------------------------

    @property
    def alpha_bar(self) -> float | None:
        """Squared signal level of the one step; None for that of the timestep."""
        level: float | None = self.config.get("alpha_bar")
        return level

    @property
    def one_step(self) -> dict[str, Any]:
        """How its UNet is asked and read, as `gendrpix.models.networks.predict` takes it."""
        return {"timestep": self.config.timestep, "form": self.config.form, "alpha_bar": self.alpha_bar}

    @property
    def pos_pad(self) -> Offset:
        """The positive branch's offset where a user names none: the weights' own, or else the paper's."""
        rows, columns = self.config.get("pos_pad") or POS_PAD
        return rows, columns

    @property
    def neg_pad(self) -> Offset:
        """The same for the negative branch."""
        rows, columns = self.config.get("neg_pad") or NEG_PAD
        return rows, columns

    @property
    def window_tokens(self) -> tuple[int, ...] | None:
        """Side of the self-attention field seen in training, one a level; None for a family that is not registered."""
        spec = MODEL_SPECS.get(self.config.model)
        return spec.window_tokens if spec else None

    @property
    def attention(self) -> str | None:
        """The kind that `set_attention` has chosen; None where it was never called."""
        return self._attention

    def set_attention(self, kind: str) -> None:
        """Choose the UNet's self-attention: "full", "window", "pooled" or "auto" (`gendrpix.models.attention`)."""
        if self.window_tokens is None:
            raise ValueError(
                f"The trained window sizes of {self.config.model!r} are not known; expected one of "
                f"{', '.join(MODEL_SPECS)}. Call gendrpix.models.attention.set_attention with the sides."
            )
        attend_as(MODEL_SPECS[self.config.model], self.unet, kind)
        self._attention = kind

    @contextlib.contextmanager
    def vae_tiles(self, tile_px: int | None) -> Iterator[None]:
        """Within, the autoencoder works in blended tiles of that side in pixels; None for the whole at once."""
        codecs = [codec for codec in (self._reader, self._writer) if isinstance(codec, LatentCodec)]
        before = [codec.tile_px for codec in codecs]
        for codec in codecs:
            codec.tile_px = tile_px
        try:
            yield
        finally:
            for codec, tile in zip(codecs, before, strict=True):
                codec.tile_px = tile

    # Restoring -----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        *,
        scale: float = 4.0,
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
        """Restore and enlarge one picture or many.

        scale: 1 to 8; the output has `floor(n * scale + 0.5)` pixels a side.
        guidance: PadCFG's omega, GenDR-Pix only; None is one unpadded pass with the positive embedding.
        pos_pad, neg_pad: offsets of the two branches, rows and columns, 0 to 7; None for the weights' own, which are
        the paper's where none are stored. plain_cfg leaves both unpadded.
        batched: run the two branches as one batch (faster) or one after the other (less memory).
        tile: side of the tiles in pixels of the result, a multiple of 8; "auto" for tiles only where the whole picture
        is not expected to fit into memory, None for none (`gendrpix.restore.planner`).
        color_fix: "wavelet" or "adain" takes the colours from the input (`gendrpix.image.color_fix`); the branches keep
        theirs.
        output_type: "np" and "pt" need outputs of one size; they carry no alpha.
        """
        if not 1.0 <= scale <= 8.0:
            raise ValueError(f"scale is {scale}, expected 1 to 8.")
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type is {output_type!r}, expected 'pil', 'np' or 'pt'.")
        check_color_fix(color_fix)
        if guidance is None and return_branches:
            raise ValueError("There are no branches without guidance; pass guidance=OMEGA with return_branches=True.")
        pictures = [one if isinstance(one, Picture) else open_picture(one) for one in as_list(image)]
        results, kept = [], []
        notes: list[str] = []
        for picture in self.progress_bar(pictures):
            pixels = self.prepare(picture, scale)
            how: dict[str, Any] = {"pos_pad": pos_pad, "neg_pad": neg_pad, "plain_cfg": plain_cfg}
            fitted = restore_within(
                self, pixels, guidance, tile=tile, batched=batched, keep_branches=return_branches, **how
            )
            corrected = correct_color(fitted.restored, pixels, color_fix)
            results.append(without_chroma(corrected) if picture.grey else corrected)
            notes += fitted.notes
            if fitted.branches is not None:
                kept.append(fitted.branches)
        self.maybe_free_model_hooks()
        images = as_output(results, pictures, output_type)
        if not return_branches:
            return RestorationOutput(images=images, notes=tuple(dict.fromkeys(notes)))
        positive, negative = (stack(branch) for branch in zip(*kept, strict=True))
        return RestorationOutput(images=images, positive=positive, negative=negative, notes=tuple(dict.fromkeys(notes)))

    def prepare(self, picture: Picture, scale: float) -> Tensor:
        """Picture => (1, 3, H, W) in [-1, 1] at the output size, on the pipeline's device and in its dtype."""
        height, width = output_size(picture.height, picture.width, scale)
        check_output_size(height, width)
        color = picture.color
        if self.device.type == "cuda":  # from pinned memory the copy runs beside what the GPU still computes
            color = color.pin_memory().to(self.device, non_blocking=True)
        return resize(color.to(self.device), height, width).to(self.unet.dtype)

    @torch.inference_mode()
    def restore(self, pixels: Tensor) -> Tensor:
        """One unpadded pass with the positive embedding: (B, 3, H, W) in [-1, 1] => the same, clamped."""
        height, width = pixels.shape[-2:]
        restored = self._predict(pad_to_multiple(pixels, PATCH), self.prompts[:1])
        return restored[..., :height, :width].clamp(-1, 1)

    def restore_guided(self, pixels: Tensor, guidance: float | None, **how: Any) -> tuple[Tensor, Branches | None]:
        """`restore` without guidance; else the clamped mix of `restore_branches(pixels, **how)`, and the branches."""
        if guidance is None:
            return self.restore(pixels), None
        branches = self.restore_branches(pixels, **how)
        return padcfg.mix(branches, guidance).clamp(-1, 1), branches

    @torch.inference_mode()
    def restore_branches(
        self,
        pixels: Tensor,
        *,
        pos_pad: Offset | None = None,
        neg_pad: Offset | None = None,
        plain_cfg: bool = False,
        batched: bool = True,
    ) -> Branches:
        """PadCFG's two branches, (B, 3, H, W) each, not clamped; `guidance.mix` makes the result of them.

        Offsets of None are the weights' own.
        """
        if not self.restorer.guided:
            raise ValueError(
                f"Guidance is defined for GenDR-Pix only, not for {self.restorer.label}; pass guidance=None."
            )
        height, width = pixels.shape[-2:]
        whole = pad_to_multiple(pixels, PATCH)
        if plain_cfg:
            branches = padcfg.predict_plain_branches(self._predict, whole, self.prompts, batched=batched)
        else:
            branches = padcfg.predict_branches(
                self._predict,
                whole,
                self.prompts,
                pos_pad=pos_pad or self.pos_pad,
                neg_pad=neg_pad or self.neg_pad,
                batched=batched,
            )
        return Branches(*(branch[..., :height, :width] for branch in branches))

    @torch.inference_mode()
    def restore_branch(self, pixels: Tensor, offsets: Sequence[Offset | None], *, positive: bool) -> Tensor:
        """One of PadCFG's branches at several offsets: (1, 3, H, W) => (len(offsets), 3, H, W), not clamped.

        An offset of None is the unpadded pass. All are one batch, so None cannot stand beside others.
        """
        height, width = pixels.shape[-2:]
        whole = pad_to_multiple(pixels, PATCH)
        row = 0 if positive else 1
        padded = torch.cat([whole if offset is None else padcfg.pad(whole, offset) for offset in offsets])
        predicted = self._predict(padded, self.prompts[row : row + 1].expand(len(offsets), -1, -1))
        pairs = zip(predicted, offsets, strict=True)
        cropped = [padcfg.crop(one, offset or (0, 0), height, width) for one, offset in pairs]
        return torch.stack(cropped)

    def _predict(self, pixels: Tensor, prompts: Tensor) -> Tensor:
        """Pixels with sides that are multiples of 8 => pixels, not clamped."""
        prompts = prompts.to(pixels.device, pixels.dtype)
        given = self._reader.encode(pixels)
        restored = self._writer.decode(predict(self.unet, given, prompts, **self.one_step))
        return without_pattern(restored, pixels, self.config.pattern_tokens)


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
    folder = find_restorer_folder(find_restorer(name).name, weights)
    loaded = PIPELINES[name].from_pretrained(folder, dtype=dtype)
    loaded.set_progress_bar_config(disable=True)
    split_feed_forward(loaded.unet)
    if loaded.window_tokens:
        loaded.set_attention("auto")
    moved: RestorerPipeline = loaded.to(device)
    speed_up(moved, speedups)
    return moved


def as_list(image: ImageInput | Sequence[ImageInput]) -> list[ImageInput]:
    """One picture or many, as a list. Raises ValueError for none."""
    images = [image] if isinstance(image, ImageInput) else list(image)
    if not images:
        raise ValueError("No picture was given; pass one or more.")
    return images
