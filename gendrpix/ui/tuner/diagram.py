"""The drawing that shows what a pad is: where the picture's corner lies on the network's grid of 8 pixels."""

from __future__ import annotations

from gendrpix.specs import PATCH, Offset

CELL = 13
SPAN = 2 * PATCH
GOOD, BAD = "#0f766e", "#c2410c"


def draw_pads(pos_pad: Offset, neg_pad: Offset, kind: str) -> str:
    """An SVG for `gr.HTML`: two by two patches, and the corner of the picture as each run sees it.

    kind: "padcfg", "plain" (both runs at the corner) or "none" (one run).
    """
    if kind != "padcfg":
        pos_pad = neg_pad = (0, 0)
    side = SPAN * CELL
    lines = [
        f'<path d="M{i * CELL} 0V{side}M0 {i * CELL}H{side}" class="{"patch" if i % PATCH == 0 else "pixel"}"/>'
        for i in sorted(range(SPAN + 1), key=lambda i: i % PATCH == 0)
    ]
    runs = [picture(pos_pad, GOOD, "")]
    if kind != "none":
        runs.insert(0, picture(neg_pad, BAD, ' stroke-dasharray="6 4"'))
    said = describe(pos_pad, neg_pad, kind)
    return (
        f'<figure class="pads"><svg viewBox="-2 -2 {side + 4} {side + 4}" role="img" aria-label="{said}">'
        f"{''.join(lines)}{''.join(runs)}</svg><figcaption>{said}</figcaption></figure>"
    )


def picture(offset: Offset, color: str, dash: str) -> str:
    """The picture's first pixels behind a pad: an outline and a dot on its corner pixel."""
    y, x = (number * CELL for number in offset)
    rest = SPAN * CELL
    return (
        f'<rect x="{x}" y="{y}" width="{rest - x}" height="{rest - y}" fill="{color}" fill-opacity="0.13" '
        f'stroke="{color}" stroke-width="2.5"{dash}/>'
        f'<rect x="{x + 2}" y="{y + 2}" width="{CELL - 4}" height="{CELL - 4}" fill="{color}"/>'
    )


def describe(pos_pad: Offset, neg_pad: Offset, kind: str) -> str:
    """The drawing in a sentence."""
    if kind == "none":
        return "One run, no pad: the picture's corner lies on a corner of the 8-pixel grid."
    if kind == "plain":
        return "Two runs, no pads: both put the grid pattern at the same pixels, and guidance makes it stronger."
    return (
        f"Thick lines: the network's 8-pixel patches. Good run (solid): {pos_pad[0]} rows above and "
        f"{pos_pad[1]} columns left of the picture. Bad run (dashed): {neg_pad[0]} and {neg_pad[1]}."
    )
