"""Entry point of ``python -m featlift`` and ``torchrun -m featlift``."""

import sys

from featlift.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
