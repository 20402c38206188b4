"""Get the atlas that may not come with the package: ``python -m preprocessing.template fetch``."""

from __future__ import annotations

import sys

from preprocessing.template.fetching import main

if __name__ == "__main__":
    sys.exit(main())
