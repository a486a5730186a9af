"""Command line: ``featlift COMMAND …``, run by :func:`featlift.cli.main.main`."""
