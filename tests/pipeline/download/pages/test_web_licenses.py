"""Test which license a URL names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing

from pipeline.download.pages.web_licenses import combine_licenses, identify_license

KNOWN = {
    "https://creativecommons.org/licenses/by-sa/4.0/": "CC-BY-SA-4.0",
    "http://www.creativecommons.org/licenses/by/3.0/us/deed.en": "CC-BY-3.0-US",
    "//creativecommons.org/licenses/by/3.0/xx/": "CC-BY-3.0",
    "https://creativecommons.org/publicdomain/zero/1.0/": "CC0-1.0",
    "https://www.gnu.org/licenses/fdl-1.3.html": "GFDL-1.3-only",
    "https://www.apache.org/licenses/LICENSE-2.0": "Apache-2.0",
    "https://opensource.org/licenses/MIT": "MIT",
    "https://creativecommons.org/licenses/": "unknown",
    "https://creativecommons.org/publicdomain/mark/1.0/": "unknown",
    "https://evil.example/creativecommons.org/licenses/by/4.0/": "unknown",
    "http://[": "unknown",
    "": "unknown",
}


@pytest.mark.parametrize("url", KNOWN)
def test_a_url_is_mapped_to_its_license(url: str) -> None:
    assert identify_license(url) == KNOWN[url]


def test_several_licenses_all_apply() -> None:
    urls = list(KNOWN)
    assert combine_licenses([urls[0], urls[5], urls[0], urls[7]]) == "Apache-2.0 AND CC-BY-SA-4.0"
    assert combine_licenses([]) == "unknown"


def test_every_license_is_valid_spdx() -> None:
    assert not get_spdx_licensing().validate(combine_licenses(KNOWN)).errors


@given(st.text(max_size=60))
def test_any_url_is_mapped(url: str) -> None:
    assert identify_license(f"https://creativecommons.org/licenses/{url}").startswith(("CC-", "unknown"))
