"""Evaluations and comparisons of whole runs."""
