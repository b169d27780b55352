"""Uploading a restorer to the Hugging Face hub, with a model card."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from gendrpix import __version__
from gendrpix.specs import FORMAT_VERSION

if TYPE_CHECKING:
    from gendrpix.restore.pipelines import RestorerPipeline

CARD = """---
{licence}library_name: diffusers
tags: [super-resolution, image-restoration, gendrpix]
---

# {label}, {model}

One-step photo restoration. {parameters:.2f}M parameters in the UNet{autoencoder}, output form `{form}`, timestep
{timestep}, format version {version}, saved by gendrpix {gendrpix}. {stated}

**Limits**: it guesses what the photo does not show; faces and text may come out wrong. Do not use a result as evidence
of what a scene looked like.
"""

USE = """
## Use

```python
from gendrpix import load_restorer

restorer = load_restorer("{name}", weights="{repo_id}")
restorer("photo.jpg", scale=4).images[0].save("restored.png")
```
"""


def upload(
    pipeline: RestorerPipeline,
    repo_id: str,
    *,
    card: str | None = None,
    licence: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
) -> str:
    """Save the pipeline and upload it as one commit; the address of the repository.

    card: the text of README.md; by default the card that lies beside the weights it was loaded from, else a plain one
    with `licence`, an identifier of the hub. How to use it is added where the card does not tell.
    Raises ValueError where the hub refuses or cannot be reached.
    """
    with tempfile.TemporaryDirectory(prefix="gendrpix-hub-") as folder:
        pipeline.save_pretrained(folder)
        text = card or _own_card(pipeline) or write_card(pipeline, licence)
        if "load_restorer" not in text:
            text = text.rstrip("\n") + "\n" + USE.format(name=pipeline.restorer.name, repo_id=repo_id)
        (Path(folder) / "README.md").write_text(text, encoding="utf-8")
        api = HfApi(token=token)
        try:
            repository = api.create_repo(repo_id, private=private, exist_ok=True)
            message = f"Upload {pipeline.restorer.label} with gendrpix {__version__}"
            api.upload_folder(
                repo_id=repository.repo_id, folder_path=folder, commit_message=message, create_pr=create_pr
            )
        except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
            raise ValueError(
                f"{repo_id!r} could not be uploaded ({type(error).__name__}); check the name, the network, and that "
                "you are logged in with a token that may write (`hf auth login`)."
            ) from error
    return str(repository)


def write_card(pipeline: RestorerPipeline, licence: str | None) -> str:
    """A plain model card: what it is, what is in it, what it cannot do."""
    config = pipeline.config
    return CARD.format(
        licence=f"license: {licence}\n" if licence else "",
        label=pipeline.restorer.label,
        model=config.model,
        parameters=sum(parameter.numel() for parameter in pipeline.unet.parameters()) / 1e6,
        autoencoder="" if pipeline.vae is None else ", an autoencoder beside it",
        form=config.form,
        timestep=config.timestep,
        version=FORMAT_VERSION,
        gendrpix=__version__,
        stated="" if licence else "No licence was stated by who uploaded it.",
    )


def _own_card(pipeline: RestorerPipeline) -> str | None:
    """The card beside the weights that the pipeline was loaded from, if there is one."""
    card = None if pipeline.folder is None else pipeline.folder / "README.md"
    return card.read_text(encoding="utf-8") if card and card.is_file() else None
