"""What the command line does, as Python functions: each verb of ``featlift`` is one of these, with the same names and defaults."""
