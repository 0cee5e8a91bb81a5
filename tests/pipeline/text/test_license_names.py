"""Licenses in every usual spelling become SPDX expressions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing

from pipeline.text.license_names import normalize_license

SPELLINGS = {
    "": (
        "",
        " ",
        "None",
        "none",
        "NOASSERTION",
        "unknown",
        "null",
        "N/A",
        "[]",
        "{}",
        "[null]",
        '[""]',
        '["none"]',
        '{"name": null}',
    ),
    "MIT": (
        *(
            "mit",
            "MIT License",
            "The MIT License (MIT)",
            "Expat",
            "['MIT']",
            '["MIT"]',
            '"MIT"',
            '["MIT", "mit"]',
            '{"name": "MIT"}',
        ),
        *(
            "{'name': 'MIT License', 'url': 'https://x.org'}",
            "License :: OSI Approved :: MIT License",
        ),
        *(
            "https://opensource.org/licenses/MIT",
            "http://www.opensource.org/licenses/mit-license.php",
            "spdx.org/licenses/MIT",
        ),
        *(
            "https://spdx.org/licenses/MIT.html",
            "https://api.github.com/licenses/mit",
            "https://choosealicense.com/licenses/mit/",
        ),
        '{"key": "mit", "name": "MIT License", "spdx_id": "MIT", "url": "https://api.github.com/licenses/mit"}',
    ),
    "Apache-2.0": (
        *(
            "apache 2.0",
            "Apache License, Version 2.0",
            "Apache Software License 2.0",
            "Apache-2",
            "Apache License 2.0 (Apache-2.0)",
        ),
        *(
            "http://www.apache.org/licenses/LICENSE-2.0.txt",
            "https://opensource.org/license/apache-2-0",
            "ASL 2.0 Apache 2"[8:],
        ),
    ),
    "BSD-3-Clause": (
        *("BSD 3-Clause", "BSD-3", "New BSD License", "3-clause BSD", 'BSD 3-Clause "New" or "Revised" License'),
        "https://opensource.org/license/bsd-3-clause/",
    ),
    "BSD-2-Clause": ("BSD 2-Clause", "Simplified BSD License", "2-clause BSD"),
    "GPL-3.0-only": (
        "GPL v3",
        "GPLv3",
        "GPL-3.0",
        "GPL 3",
        "GNU General Public License v3.0",
        "https://www.gnu.org/licenses/gpl-3.0.en.html",
    ),
    "GPL-3.0-or-later": ("GPLv3+", "GPL-3.0+", "GPL 3 or later", "GNU General Public License v3 or later"),
    "LGPL-2.1-only": (
        "LGPL v2.1",
        "GNU Lesser General Public License (LGPL) 2.1",
        "https://www.gnu.org/licenses/old-licenses/lgpl-2.1.html",
    ),
    "AGPL-3.0-only": ("AGPL-3.0", "GNU Affero General Public License, version 3", "AGPLv3"),
    "MPL-2.0": ("MPL 2.0", "Mozilla Public License 2.0 (MPL 2.0)", "https://www.mozilla.org/en-US/MPL/2.0/"),
    "CC0-1.0": (
        *(
            "cc0",
            "CC0 1.0",
            "CC-0",
            "Creative Commons Zero v1.0 Universal",
            "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication",
        ),
        "http://creativecommons.org/publicdomain/zero/1.0/",
    ),
    "CC-BY-4.0": (
        *(
            "CC BY 4.0",
            "cc-by-4.0",
            "CC-BY 4.0",
            "Creative Commons Attribution 4.0 International Public License",
            "license:cc-by-4.0",
        ),
        *("https://creativecommons.org/licenses/by/4.0/", "http://www.creativecommons.org/licenses/by/4.0", "CC BY 4"),
        *(
            "https://creativecommons.org/licenses/by/4.0/deed.de",
            "https://creativecommons.org/licenses/by/4.0/legalcode.fr",
        ),
        "Creative Commons - Attribution - https://creativecommons.org/licenses/by/4.0/",
    ),
    "CC-BY-NC-SA-3.0": (
        "Creative Commons Attribution-NonCommercial-ShareAlike 3.0 Unported",
        "CC BY-NC-SA 3.0",
        "CC BY-SA-NC 3.0",
    ),
    "CC-BY-SA-3.0-DE": ("https://creativecommons.org/licenses/by-sa/3.0/de/deed.en", "CC BY-SA 3.0 DE"),
    "ODbL-1.0": ("ODbL", "Open Database License", "https://opendatacommons.org/licenses/odbl/1-0/"),
    "MIT AND Apache-2.0": (
        '["MIT", "Apache-2.0"]',
        "MIT, Apache 2.0",
        "MIT and Apache 2",
        '[{"type": "MIT"}, {"type": "Apache-2.0"}]',
    ),
    "MIT OR Apache-2.0": ("MIT/Apache-2.0", "MIT or Apache License 2.0", "MIT OR Apache-2.0", "MIT | Apache 2.0"),
    "MIT AND unknown": ('["MIT", null]', '["MIT", "NOASSERTION"]'),
    "(MIT OR Apache-2.0) AND ISC": ('["MIT OR Apache-2.0", "ISC"]',),
}


@pytest.mark.parametrize(("expected", "spelled"), [(spdx, text) for spdx, texts in SPELLINGS.items() for text in texts])
def test_spellings(expected: str, spelled: str) -> None:
    assert normalize_license(spelled) == expected


SAME = (
    *(
        "Apache-2.0 WITH LLVM-exception",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "MIT AND (GPL-3.0-only OR 0BSD)",
        "LicenseRef-ours",
    ),
    *(
        "GPL",
        "BSD",
        "CC BY",
        "Creative Commons",
        "proprietary",
        "Public Domain",
        "see LICENSE.txt (ask)",
        "https://example.org/terms",
        "[MIT",
    ),
    *(
        "MIT OR",
        "MIT AND ISC OR 0BSD",
        "free and open",
        "a/b",
        "GPL-2.0-only OR LicenseRef-x AND MIT",
        "x" * 3_000,
        "[" * 1_900,
    ),
)


@pytest.mark.parametrize("text", SAME)
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert normalize_license(text) == text


@given(
    st.recursive(
        st.none() | st.text(max_size=12) | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
)
def test_any_json_is_read_and_normalizing_twice_changes_nothing(value: object) -> None:
    once = normalize_license(json.dumps(value))
    assert normalize_license(once) == once


@pytest.mark.slow
def test_every_spdx_id_is_its_own_name() -> None:
    ids = [each.key for each in get_spdx_licensing().known_symbols.values() if not each.is_exception]
    licensing = get_spdx_licensing()
    wrong = [each for each in ids if str(licensing.parse(normalize_license(each)).render()) != each]
    assert wrong == []
