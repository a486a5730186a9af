"""Deployment of trained networks: faster inference, latency budgets, export, upscaling of images."""
