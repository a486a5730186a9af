"""The browser app of ``featlift app``: two detectors, two rankings of a search, or two upscaled images, side by side."""
