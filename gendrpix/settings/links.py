"""Settings as the query of a link, and back. What a link says is checked like any other input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import urlencode

from gendrpix.settings.checks import checked_choice
from gendrpix.settings.presets import guided
from gendrpix.settings.reproduce import exactly
from gendrpix.settings.restoration import Kind, RestoreSettings
from gendrpix.specs import DEFAULT_OMEGA, NEG_PAD, POS_PAD

SAFE = ",*"
"""Characters that stay as they are in a query."""
LISTS = {"box": "crop", "speedups": "speedups"}
NUMBERS = {"scale": "scale", "size": "size_px", "bits": "bits"}
WORDS = ("restorer", "color_fix", "dtype")
FLAGS = ("batched", "stream")
GUIDED = ("omega", "pos", "neg")


def to_query(settings: RestoreSettings) -> dict[str, str]:
    """The settings as keys and texts of a query: restorer, size, guidance, and what is not as usual."""
    usual = RestoreSettings()
    size = settings.scale if settings.size_px is None else None
    query: dict[str, str] = {"restorer": settings.choice}
    query |= {"size": str(settings.size_px)} if size is None else {"scale": exactly(size)}
    query["guidance"] = settings.kind
    if settings.guidance is not None:
        query["omega"] = exactly(settings.guidance)
    pads = {"pos": settings.pos_pad, "neg": settings.neg_pad}
    query |= {key: ",".join(map(str, pad)) for key, pad in pads.items() if pad is not None}
    rest = {**{key: key for key in (*WORDS, *FLAGS, "bits", "tile")}, **LISTS}
    for key, field in rest.items():
        value = getattr(settings, field)
        if key != "restorer" and value != getattr(usual, field):
            query[key] = (",".join(map(str, value)) or "none") if key in LISTS else str(value).lower()
    return query


def to_link(settings: RestoreSettings) -> str:
    """The settings as a query: "restorer=gendr-pix&scale=4&guidance=padcfg&omega=1.5&pos=4,4&neg=3,3"."""
    return urlencode(to_query(settings), safe=SAFE)


def from_query(query: Mapping[str, str]) -> RestoreSettings:
    """The settings that a link's query names; other keys are not ours. Raises SettingsError.

    Links of version 0.1.0 are read too: they name omega and offsets whatever the kind of guidance.
    """
    given: dict[str, Any] = {key: query[key] for key in WORDS if key in query}
    given |= {field: as_number(query[key]) for key, field in NUMBERS.items() if key in query}
    given |= {key: {"true": True, "false": False}.get(query[key], query[key]) for key in FLAGS if key in query}
    if "tile" in query:
        given["tile"] = None if query["tile"] == "none" else as_number(query["tile"])
    if "box" in query:
        given["crop"] = as_numbers(query["box"])
    if "speedups" in query:
        given["speedups"] = [] if query["speedups"] == "none" else query["speedups"].split(",")
    if "guidance" not in query and not any(key in query for key in GUIDED):
        return RestoreSettings(**given)
    kind = checked_choice("guidance", query.get("guidance", "padcfg"), get_args(Kind))
    omega = as_number(query.get("omega", str(DEFAULT_OMEGA)))
    pads = [as_numbers(query[key]) if key in query else None for key in ("pos", "neg")]
    if kind == "padcfg":
        return RestoreSettings(guidance=omega, pos_pad=pads[0], neg_pad=pads[1], **given)  # type: ignore[arg-type]
    restorer = given.pop("restorer", "gendr-pix")
    unused = guided(kind, omega, pads[0] or POS_PAD, pads[1] or NEG_PAD, **given)
    return RestoreSettings(restorer=restorer, guidance=unused.guidance, plain_cfg=unused.plain_cfg, **given)


def as_number(text: str) -> Any:
    """The text as an int or a float, or as it is where it is no number."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def as_numbers(text: str) -> list[Any]:
    """ "4,4" => [4, 4]"""
    return [as_number(part) for part in text.split(",")]
