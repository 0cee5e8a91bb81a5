"""Test finding the files and the license of distributions."""

from __future__ import annotations

import pytest

from pipeline.download.python.distributions import LICENSE_FILE, is_documented, resolve_license

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
def test_the_license_is_resolved_from_metadata_and_texts(
    metadata: dict[str, str | list[str]], texts: list[str], expected: str
) -> None:
    assert resolve_license(metadata, texts) == expected


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ("numpy/linalg/_linalg.py", True),
        ("numpy/testing/_private/utils.py", True),
        ("numpy/tests/test_x.py", False),
        ("torch/testing/_internal/common.py", False),
        ("pkg/test_x.py", False),
        ("pkg/conftest.py", False),
        ("pkg/__main__.py", False),
        ("pkg/config-3.11/x.py", False),
        ("pkg/some-script.py", False),
        ("pkg/_vendor/six.py", False),
    ],
)
def test_only_files_with_their_own_documentation_are_selected(relative: str, expected: bool) -> None:
    assert is_documented(relative) is expected


@pytest.mark.parametrize("name", ["LICENSE", "licenses/LICENCE.txt", "COPYING.md"])
def test_license_files_are_recognized_in_both_spellings(name: str) -> None:
    assert LICENSE_FILE.search(f"pkg-1.0.dist-info/{name}")
    assert not LICENSE_FILE.search(f"pkg/{name}")
