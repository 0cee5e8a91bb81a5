"""What people ask about most is in the corpus under its own name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.download.params import PythonDocs
from pipeline.download.python.python_docs import open_source

ASKED = Path(__file__).with_name("asked_names.txt").read_text(encoding="utf-8").split()
PACKAGES = ["stdlib", "numpy", "pandas", "matplotlib", "torch", "scikit-learn", "scipy"]
MIN_FOUND = 130  # numpy.random.rand is compiled: its docstring is in no file that is read


@pytest.mark.slow
def test_the_names_that_people_ask_most_are_titles() -> None:
    assert len(set(ASKED)) == 133
    batches = open_source(PythonDocs(kind="python_docs", packages=PACKAGES), "s").batches
    titles = {document.title for batch in batches for document in batch.docs}
    missing = [name for name in ASKED if name not in titles]
    assert len(ASKED) - len(missing) >= MIN_FOUND, missing
