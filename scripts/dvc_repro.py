"""``dvc repro`` that also works beside a distribution whose entry points are damaged, which DVC by itself does not."""

from __future__ import annotations

import os
import sys

from hyped_core.plugins.discovery import find_points

if __name__ == "__main__":
    find_points()  # hides damaged distributions from the libraries that DVC imports
    try:
        from dvc.cli import main
    except ImportError:  # it lies in an environment of its own, as pipx makes them
        os.execvp("dvc", ["dvc", "repro", *sys.argv[1:]])
    sys.exit(main(["repro", *sys.argv[1:]]))
