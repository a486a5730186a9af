"""The command line: ``featlift VERB …``; :func:`featlift.cli.main.main` runs it."""
