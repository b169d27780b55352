"""Colour that is told by numbers instead of an ICC profile, converted to sRGB; high dynamic range is tone-mapped.

Primaries and transfer functions have the codes of ITU-T H.273, which PNG (cICP), AVIF and HEIC (nclx) use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Matrix = NDArray[np.float64]
Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of red, green, blue and white, CIE 1931."""

D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *D65)
ADOBE_RGB: Chromaticities = (0.640, 0.330, 0.210, 0.710, 0.150, 0.060, *D65)
ADOBE_GAMMA = 563 / 256
PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    4: (0.670, 0.330, 0.210, 0.710, 0.140, 0.080, 0.310, 0.316),
    5: (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, *D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, 0.310, 0.316),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *D65),
}
PRIMARY_NAMES = {1: "BT.709", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
LINEAR, PQ, HLG = 8, 16, 18
SRGB_CURVES = (1, 6, 7, 11, 13, 14, 15)
"""Transfer codes shown by the sRGB curve: BT.709's and its kin are camera curves, displayed as sRGB by viewers."""
GAMMAS = {4: 2.2, 5: 2.8}
UNSPECIFIED = (0, 2)
WHITE_NITS = 203.0
"""Luminance of SDR white in a picture of high dynamic range, cd/m2 (ITU-R BT.2408)."""
HLG_NITS, HLG_GAMMA = 1000.0, 1.2
"""Peak of the display that HLG is shown on, and the exponent of its system (ITU-R BT.2100)."""
PQ_NITS = 10_000.0
BAND_PX = 1_000_000
"""Pixels converted at a time."""


@dataclass(frozen=True, kw_only=True)
class ColorSpace:
    """Where samples stand: their primaries, the curve that makes them linear, and their range."""

    primaries: Chromaticities = SRGB
    transfer: int = 13
    """A code of H.273; not used where `gamma` is given."""
    gamma: float | None = None
    """linear = sample ** gamma."""
    full_range: bool = True
    """False where black is 16/255 and white 235/255."""
    name: str = ""
    """Said in notes: "BT.2020 PQ"."""

    @property
    def is_srgb(self) -> bool:
        """Whether its linear colours and its curve are sRGB's but for rounding; the range does not count."""
        near = max(abs(one - other) for one, other in zip(self.primaries, SRGB, strict=True)) < 0.005
        if self.gamma is not None:
            return near and abs(self.gamma / 2.2 - 1) < 0.05  # libpng's threshold: 1/2.2 is how sRGB is written there
        return near and self.transfer in SRGB_CURVES

    @property
    def is_hdr(self) -> bool:
        return self.gamma is None and self.transfer in (PQ, HLG)


def from_codes(primaries: int, transfer: int, full_range: bool = True) -> tuple[ColorSpace | None, str | None]:
    """The colour space of two codes of H.273, or None and a note where they have no meaning here."""
    known = primaries in PRIMARIES or primaries in UNSPECIFIED
    if not known or transfer not in (*SRGB_CURVES, *GAMMAS, *UNSPECIFIED, LINEAR, PQ, HLG):
        note = f"colour space (primaries {primaries}, transfer {transfer}) not known: taken as sRGB"
        return (None if full_range else ColorSpace(full_range=False)), note
    transfer = 13 if transfer in UNSPECIFIED else transfer
    curve = {PQ: "PQ", HLG: "HLG", LINEAR: "linear"}.get(transfer, "")
    name = f"{PRIMARY_NAMES.get(primaries, f'primaries {primaries}')} {curve}".strip()
    chromaticities = PRIMARIES.get(primaries, SRGB)
    space = ColorSpace(
        primaries=chromaticities, transfer=transfer, gamma=GAMMAS.get(transfer), full_range=full_range, name=name
    )
    return space, None


def to_srgb(color: Samples, space: ColorSpace) -> tuple[Samples, str | None]:
    """(3, H, W) or (1, H, W) in [0, 1], changed in place, and a note on what was lost.

    Order: range, curve, primaries (Bradford's adaptation where the white differs), tone map for PQ and HLG, the sRGB
    curve. What lies outside sRGB is clipped. One channel is grey: its primaries do not count.
    """
    if not space.full_range:
        np.clip((color * 255 - 16) / 219, 0, 1, out=color)
    if space.is_srgb:
        return color, None
    matrix = conversion(space.primaries) if len(color) == 3 else np.eye(1)
    rows, peak = max(1, BAND_PX // color.shape[2]), 0.0
    bands = [slice(top, top + rows) for top in range(0, color.shape[1], rows)]
    for band in bands:
        linear = linearise(color[:, band].astype(np.float64), space)
        color[:, band] = np.einsum("ij,jhw->ihw", matrix, linear)
        peak = max(peak, float(color[:, band].max()))
    for band in bands:
        light: Samples = np.maximum(color[:, band], np.float32(0))
        if space.is_hdr:
            light = roll_off(light, peak)
        color[:, band] = encode(np.minimum(light, np.float32(1)))
    if not space.is_hdr:
        return color, None
    return color, f"high dynamic range ({space.name}) tone-mapped to SDR (ITU-R BT.2390, white at {WHITE_NITS:g} cd/m2)"


def linearise(values: NDArray[np.float64], space: ColorSpace) -> NDArray[np.float64]:
    """Samples in [0, 1] => linear light, 1.0 the white of SDR."""
    if space.gamma is not None:
        return np.asarray(values**space.gamma)
    if space.transfer == LINEAR:
        return values
    if space.transfer == PQ:
        return pq_to_nits(values) / WHITE_NITS
    if space.transfer == HLG:
        return hlg_to_nits(values) / WHITE_NITS
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def encode(linear: Samples) -> Samples:
    """Linear light in [0, 1] => sRGB samples in [0, 1] (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


# High dynamic range --------------------------------------------------------------------------------------------------

M1, M2 = 2610 / 16384, 2523 / 4096 * 128
C1, C2, C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def pq_to_nits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The PQ curve of SMPTE ST 2084: [0, 1] => cd/m2."""
    root = values ** (1 / M2)
    return PQ_NITS * np.asarray(np.maximum(root - C1, 0) / (C2 - C3 * root)) ** (1 / M1)


def nits_to_pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `pq_to_nits`."""
    power = (nits / PQ_NITS) ** M1
    return np.asarray(((C1 + C2 * power) / (1 + C3 * power)) ** M2)


def hlg_to_nits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(C, H, W) HLG samples in [0, 1] => cd/m2 on a display of 1000 cd/m2 (ITU-R BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - c) / a) + b) / 12)
    weights = np.array([0.2627, 0.6780, 0.0593]) if len(scene) == 3 else np.ones(1)
    luminance = np.einsum("c,chw->hw", weights, scene)
    return np.asarray(HLG_NITS * np.maximum(luminance, 1e-9) ** (HLG_GAMMA - 1) * scene)


def roll_off(linear: Samples, peak: float) -> Samples:
    """ITU-R BT.2390's curve from the picture's own peak down to SDR's white; the hue is kept.

    linear: (C, H, W), 1.0 the white of SDR; peak: the largest sample of the whole picture. Without anything brighter
    than white nothing changes.
    """
    if peak <= 1.005:
        return linear
    top = float(nits_to_pq(np.array(peak * WHITE_NITS)))
    white = float(nits_to_pq(np.array(WHITE_NITS))) / top
    knee = 1.5 * white - 0.5
    brightest = linear.max(axis=0).astype(np.float64)
    level = nits_to_pq(brightest * WHITE_NITS) / top
    t = np.clip((level - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * white
    mapped = pq_to_nits(np.where(level > knee, spline, level) * top) / WHITE_NITS
    return np.asarray(linear * (mapped / np.maximum(brightest, 1e-9)), np.float32)


# Primaries -----------------------------------------------------------------------------------------------------------

BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def conversion(primaries: Chromaticities) -> Matrix:
    """(3, 3): linear RGB of these primaries => linear sRGB."""
    white, target = xyz(*primaries[6:]), xyz(*D65)
    cones = np.diag((BRADFORD @ target) / (BRADFORD @ white))
    adapted = np.linalg.inv(BRADFORD) @ cones @ BRADFORD
    return np.asarray(np.linalg.inv(to_xyz(SRGB)) @ adapted @ to_xyz(primaries))


def to_xyz(primaries: Chromaticities) -> Matrix:
    """(3, 3): linear RGB => XYZ, with white at Y = 1."""
    columns = np.stack([xyz(*primaries[at : at + 2]) for at in (0, 2, 4)], axis=1)
    return np.asarray(columns * np.linalg.solve(columns, xyz(*primaries[6:])))


def xyz(x: float, y: float) -> NDArray[np.float64]:
    return np.array([x / y, 1.0, (1 - x - y) / y])


def usable(primaries: Chromaticities) -> bool:
    """Whether chromaticities from a file span a triangle and have a white, so that a matrix can be made of them."""
    if not all(0 <= one <= 1 for one in primaries) or min(primaries[1::2]) < 0.01:
        return False
    rx, ry, gx, gy, bx, by = primaries[:6]
    area = abs((gx - rx) * (by - ry) - (bx - rx) * (gy - ry)) / 2
    return area > 0.01 and bool((np.linalg.solve(to_xyz(SRGB), to_xyz(primaries).sum(axis=1)) > 0).all())
