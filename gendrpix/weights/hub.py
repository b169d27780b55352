"""Uploading a restorer to the Hugging Face hub, with a model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from gendrpix import __version__
from gendrpix.specs import FORMAT_VERSION, RestorerSpec

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


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a model card says of a restorer."""

    restorer: RestorerSpec
    model: str
    """Name of the model family."""
    parameters: int
    """Of the UNet."""
    has_autoencoder: bool
    form: str
    timestep: int


def upload(
    folder: Path,
    repo_id: str,
    facts: CardFacts,
    *,
    card: str | None = None,
    licence: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    create_pr: bool = False,
) -> str:
    """Upload a folder of saved weights as one commit, a model card with it; the address of the repository.

    card: the text of README.md, which is written into the folder; by default a plain card with `licence`, an
    identifier of the hub. How to use it is added where the card does not tell.
    Raises ValueError where the hub refuses or cannot be reached.
    """
    text = card or write_card(facts, licence)
    if "load_restorer" not in text:
        text = text.rstrip("\n") + "\n" + USE.format(name=facts.restorer.name, repo_id=repo_id)
    (folder / "README.md").write_text(text, encoding="utf-8")
    api = HfApi(token=token)
    try:
        repository = api.create_repo(repo_id, private=private, exist_ok=True)
        message = f"Upload {facts.restorer.label} with gendrpix {__version__}"
        api.upload_folder(
            repo_id=repository.repo_id, folder_path=str(folder), commit_message=message, create_pr=create_pr
        )
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        raise ValueError(
            f"{repo_id!r} could not be uploaded ({type(error).__name__}); check the name, the network, and that "
            "you are logged in with a token that may write (`hf auth login`)."
        ) from error
    return str(repository)


def write_card(facts: CardFacts, licence: str | None) -> str:
    """A plain model card: what it is, what is in it, what it cannot do."""
    return CARD.format(
        licence=f"license: {licence}\n" if licence else "",
        label=facts.restorer.label,
        model=facts.model,
        parameters=facts.parameters / 1e6,
        autoencoder=", an autoencoder beside it" if facts.has_autoencoder else "",
        form=facts.form,
        timestep=facts.timestep,
        version=FORMAT_VERSION,
        gendrpix=__version__,
        stated="" if licence else "No licence was stated by who uploaded it.",
    )


def own_card(folder: Path | None) -> str | None:
    """The card beside weights, if there is one."""
    card = None if folder is None else folder / "README.md"
    return card.read_text(encoding="utf-8") if card and card.is_file() else None
