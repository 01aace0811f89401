"""``dvc repro`` that also works beside a distribution whose entry points are damaged, which DVC by itself does not."""

from __future__ import annotations

import sys

from hyped_core.plugins.discovery import find_points

if __name__ == "__main__":
    find_points()  # hides damaged distributions from the libraries that DVC imports
    from dvc.cli import main

    sys.exit(main(["repro", *sys.argv[1:]]))
