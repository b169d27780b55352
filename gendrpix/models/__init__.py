"""Networks, codecs, attention, tiling and ways to compute faster."""
