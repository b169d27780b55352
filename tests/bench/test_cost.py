"""The counts against the paper's figures and against hand-written sums."""

from __future__ import annotations

import pytest

from gendrpix.bench.cost import count, format_info


def test_parameters_of_the_full_size_are_the_papers() -> None:
    assert count("sd21", "gendr-pix", 512, 512).unet_parameters == pytest.approx(866.99e6, rel=1e-5)


def test_multiply_adds_at_512_are_the_papers() -> None:
    single = count("sd21", "gendr-pix", 512, 512)
    assert single.macs == pytest.approx(344e9, rel=0.005)
    assert single.total_macs == pytest.approx(406.6e9, rel=0.001)
    assert count("sd21", "gendr-pix", 512, 512, guided=True).macs == pytest.approx(744e9, rel=0.005)


def test_attention_is_most_of_the_work_at_2880() -> None:
    cost = count("sd21", "gendr-pix", 2880, 2880)
    assert cost.total_macs == pytest.approx(72.2e12, rel=0.002)
    assert cost.attention_macs == pytest.approx(61.4e12, rel=0.002)


def test_windows_take_2880_from_72_to_at_most_14_tera() -> None:
    full, window = (count("sd21", "gendr-pix", 2880, 2880, attention=kind) for kind in ("full", "window"))
    assert window.total_macs <= 14e12 < 70e12 < full.total_macs
    assert window.macs == full.macs  # the projections are made once, whatever the windows share


def test_windows_make_the_work_grow_with_the_pixels() -> None:
    """From 2880 x 2880 to 7680 x 4320, four times the pixels."""
    growth = {}
    for kind in ("full", "window"):
        small, large = (count("sd21", "gendr-pix", *size, attention=kind) for size in ((2880, 2880), (4320, 7680)))
        growth[kind] = large.total_macs / small.total_macs
    assert growth["full"] == pytest.approx(14, rel=0.05) and growth["window"] <= 4.2


@pytest.mark.parametrize("kind", ["window", "pooled", "auto"])
def test_at_the_size_of_training_every_kind_counts_as_full(kind: str) -> None:
    full, other = (count("sd21", "gendr-pix", 512, 512, guided=True, attention=name) for name in ("full", kind))
    assert full == other


def test_unknown_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of full, window, pooled, auto"):
        count("mini", "gendr-pix", 64, 64, attention="sparse")


def test_attention_products_match_a_sum_over_the_blocks() -> None:
    """mini at 64 x 96: attention on the second level, in one block down and two up, and in one in the middle."""
    tokens, middle, prompt_tokens = 4 * 6, 2 * 3, 4
    expected = 3 * 2 * tokens * (tokens + prompt_tokens) * 192 + 2 * middle * (middle + prompt_tokens) * 96
    assert count("mini", "gendr-pix", 64, 96).attention_macs == expected


def test_gendr_costs_the_autoencoder_more() -> None:
    gendr, adc, pix = (count("mini", name, 512, 512) for name in ("gendr", "gendr-adc", "gendr-pix"))
    assert gendr.macs > adc.macs > pix.macs
    assert gendr.parameters > adc.parameters > pix.parameters


def test_the_limits_of_the_small_family() -> None:
    """Each UNet at most 14M parameters; the shared autoencoder at most 5M."""
    for name in ("gendr", "gendr-adc", "gendr-pix"):
        assert count("mini", name, 64, 64).unet_parameters <= 14e6
    gendr = count("mini", "gendr", 64, 64)
    assert gendr.parameters - gendr.unet_parameters <= 5e6


def test_the_table_names_every_restorer_and_the_papers_count() -> None:
    table = format_info(512)
    for words in ("GenDR-Pix*", "GenDR-Adc", "866.99M", "343.5 G", "743.3 G", "406.6 G"):
        assert words in table


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8; got 100 x 64"):
        count("mini", "gendr-pix", 100, 64)
