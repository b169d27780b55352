"""The weight files of learned metrics, and whether they can be downloaded."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub import constants

from gendrpix.metrics.registry import LpipsNet

PROBE_TIMEOUT_S = 5.0
"""How long the server of missing weights may take to answer before they count as out of reach."""


def weight_files(name: str, lpips_net: LpipsNet = "alex") -> dict[Path, str]:
    """The files, each with its address, that pyiqa reads for a metric; it downloads those that are not there."""
    from pyiqa.utils.download_util import DEFAULT_CACHE_DIR

    urls: list[str] = []
    files: dict[Path, str] = {}
    if name == "musiq":
        from pyiqa.archs.musiq_arch import default_model_urls as musiq_urls

        urls = [musiq_urls["koniq10k"]]
    elif name == "niqe":
        from pyiqa.archs.niqe_arch import default_model_urls as niqe_urls

        urls = [niqe_urls["url"]]
    elif name == "dists":
        from pyiqa.archs.dists_arch import default_model_urls as dists_urls
        from torchvision import models

        files.update([_trunk_file(models.VGG16_Weights.IMAGENET1K_V1.url)])
        urls = [dists_urls["url"]]
    elif name == "clipiqa":
        from pyiqa.archs.clip_model import _MODELS as clip_urls

        trunk = clip_urls["RN50"]
        files[Path(torch.hub.get_dir()) / "clip" / trunk.rsplit("/", 1)[-1]] = trunk
    elif name == "maniqa":
        from pyiqa.archs.maniqa_arch import default_model_urls as maniqa_urls

        files.update([_timm_file("vit_base_patch8_224")])
        urls = [maniqa_urls["pipal"]]
    elif name == "lpips":
        from pyiqa.archs.lpips_arch import default_model_urls as lpips_urls
        from torchvision import models

        trunks = {
            "alex": models.AlexNet_Weights.IMAGENET1K_V1,
            "squeeze": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
            "vgg": models.VGG16_Weights.IMAGENET1K_V1,
        }
        files.update([_trunk_file(trunks[lpips_net].url)])
        urls = [lpips_urls[f"0.1_{lpips_net}"]]
    files.update({Path(DEFAULT_CACHE_DIR) / url.rsplit("/", 1)[-1]: url for url in urls})
    return files


def _trunk_file(url: str) -> tuple[Path, str]:
    """Where torchvision keeps the weights of that address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1], url


def _timm_file(model: str) -> tuple[Path, str]:
    """Where timm keeps a model's default weights, which it takes from the hub."""
    import timm

    config = timm.get_pretrained_cfg(model, allow_unregistered=False)
    assert config is not None and config.hf_hub_id is not None
    repository, file = config.hf_hub_id, "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, file)
    path = Path(cached) if isinstance(cached, str) else Path(constants.HF_HUB_CACHE) / repository / file
    return path, huggingface_hub.hf_hub_url(repository, file)


def check_reachable(url: str) -> None:
    """Raise OSError unless the server of `url` answers soon, or if HF_HUB_OFFLINE forbids downloads."""
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    if not url.startswith("https://"):
        raise OSError(f"{url} is no https address")
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "gendrpix"})  # noqa: S310 - https
    with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S):  # noqa: S310 - checked above
        pass
