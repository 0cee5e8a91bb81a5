"""python -m pipeline STAGE --docs … --out … --metrics …: run one stage (pipeline/launch.py)."""

from __future__ import annotations

import sys

from pipeline.launch import main

if __name__ == "__main__":
    sys.exit(main())
