"""Runs: what a training is told to do, and the folder it leaves."""
