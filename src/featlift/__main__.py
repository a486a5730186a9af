"""``python -m featlift`` and ``torchrun -m featlift``: the command line."""

import sys

from featlift.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
