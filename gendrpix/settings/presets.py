"""Settings by name, and as JSON files. What is read from a file is checked like any other input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, get_args

from gendrpix.settings.checks import SettingsError, checked_choice, read_object, shown
from gendrpix.settings.restoration import Kind, RestoreSettings
from gendrpix.specs import NEG_PAD, POS_PAD

FORMAT = "gendrpix settings 2"
GUIDANCE_FORMAT = "gendrpix guidance 1"
"""Format of version 0.1.0: the guidance of gendr-pix alone. It is still read."""
GUIDANCE_KEYS = ("format", "kind", "omega", "pos_pad", "neg_pad")


def to_json(settings: RestoreSettings) -> str:
    """The settings as a document that `from_json` reads. Of scale and size it has the one that was given."""
    document = {field.name: getattr(settings, field.name) for field in fields(settings)}
    del document["scale" if settings.size_px is not None else "size_px"]
    return json.dumps({"format": FORMAT, **document}, indent=2) + "\n"


def from_json(text: str | bytes) -> RestoreSettings:
    """Read `to_json`'s document, or that of version 0.1.0. Keys that are left out have their defaults.

    Raises SettingsError for another format, an unknown key and a value out of range.
    """
    document = read_object(text)
    found = document.get("format")
    if found == GUIDANCE_FORMAT:
        return _from_guidance(document)
    if found != FORMAT:
        raise SettingsError(f"The file's format is {shown(found)}; expected {FORMAT!r}, as this page saves it.")
    known = {field.name for field in fields(RestoreSettings)}
    unknown = sorted(document.keys() - known - {"format"})
    if unknown:
        raise SettingsError(f"The settings file has {unknown[0]!r:.40}; expected some of {', '.join(sorted(known))}.")
    return RestoreSettings(**{key: value for key, value in document.items() if key != "format"})


def _from_guidance(document: Mapping[str, Any]) -> RestoreSettings:
    wrong = [*(document.keys() - set(GUIDANCE_KEYS)), *(set(GUIDANCE_KEYS) - document.keys())]
    if wrong:
        raise SettingsError(
            f"The settings file has or lacks {min(wrong)!r:.40}; expected exactly {', '.join(GUIDANCE_KEYS)}."
        )
    kind = checked_choice("kind", document["kind"], get_args(Kind))
    return guided(kind, document["omega"], document["pos_pad"], document["neg_pad"])


def guided(kind: Kind, omega: Any, pos_pad: Any, neg_pad: Any, **more: Any) -> RestoreSettings:
    """Settings of gendr-pix by kind of guidance, as widgets and old files hold them.

    All values are checked, those that the kind does not use as well. more: further fields. Raises SettingsError.
    """
    if omega is None or pos_pad is None or neg_pad is None:
        raise SettingsError("The guidance lacks omega or an offset; expected numbers.")
    whole = RestoreSettings(guidance=omega, pos_pad=pos_pad, neg_pad=neg_pad, **more)
    if kind == "padcfg":
        return whole
    return RestoreSettings(guidance=omega if kind == "plain" else None, plain_cfg=kind == "plain", **more)


PRESETS: Mapping[str, RestoreSettings] = MappingProxyType(
    {
        "Paper": RestoreSettings(pos_pad=POS_PAD, neg_pad=NEG_PAD),
        "Plain CFG": RestoreSettings(plain_cfg=True),
        "None (Pix*)": RestoreSettings(),
    }
)
"""The paper's offsets, guidance without them, and no guidance. The paper names no omega; this one is ours."""
