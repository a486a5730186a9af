"""Procedural images with exact ground truth, identical on every machine."""
