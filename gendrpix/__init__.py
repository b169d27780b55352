"""GenDR-Pix: one-step photo restoration in pixel space, beside GenDR and GenDR-Adc."""
