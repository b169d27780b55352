"""Pictures drawn by code: text, comics, line art, charts, screens and signs to train on."""
