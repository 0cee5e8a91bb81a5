"""Licenses from metadata."""

from __future__ import annotations

import pytest

from pipeline.download.python.package_licenses import spdx

TWO = "Redistributions of source code must retain the above copyright notice. In binary form must reproduce."
THREE = TWO + "\nNeither the name may be used to endorse\n or promote products derived from this software."
BSD = "License :: OSI Approved :: BSD License"
MIT = "License :: OSI Approved :: MIT License"
APACHE = "License :: OSI Approved :: Apache Software License"


@pytest.mark.parametrize(
    ("metadata", "texts", "expected"),
    [
        ({"license_expression": "MIT OR Apache-2.0", "classifier": [BSD]}, [], "MIT OR Apache-2.0"),
        ({"classifier": [MIT, "Topic :: Software Development"], "license": "whole text"}, [], "MIT"),
        ({"classifier": [MIT, APACHE]}, [], "Apache-2.0 AND MIT"),
        ({"classifier": [BSD]}, [THREE], "BSD-3-Clause"),
        ({"classifier": [BSD], "license": TWO}, [], "BSD-2-Clause"),
        ({"classifier": [BSD]}, [], "unknown"),
        ({"classifier": ["License :: OSI Approved"], "license": "MIT"}, [], "MIT"),
        ({"license": "  New BSD\n License "}, [], "BSD-3-Clause"),
        ({"license": "BSD"}, [THREE], "BSD-3-Clause"),
        ({"license": "do what you like"}, [], "unknown"),
        ({"classifier": ["License :: Other/Proprietary License"]}, [], "unknown"),
        ({}, [THREE], "unknown"),
    ],
)
def test_spdx(metadata: dict[str, str | list[str]], texts: list[str], expected: str) -> None:
    assert spdx(metadata, texts) == expected
