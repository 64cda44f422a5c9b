"""`python -m disentangle_lightning`."""

from __future__ import annotations

import sys

from disentangle_lightning import cli


def main() -> None:
    """The console script."""
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
