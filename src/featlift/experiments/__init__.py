"""Comparisons and measurements of whole runs."""
