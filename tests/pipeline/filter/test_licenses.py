"""SPDX expressions are judged against allowed and denied ids."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.filter.licenses import RULES, find_violations, measure_licenses, refuse_violations
from pipeline.frame.errors import UserError
from pipeline.screening.license_policy import (
    ALLOWED,
    DENIED,
    NOT_ALLOWED,
    UNKNOWN,
    judge_license,
    judge_licenses,
    make_policy,
)


@pytest.mark.parametrize(
    ("license", "allowed", "is_allowed"),
    [
        ("MIT", ["MIT"], True),
        ("mit", ["MIT"], True),
        ("MIT", ["mit"], True),
        ("GPL-3.0-only", ["MIT"], False),
        ("MIT AND BSD-3-Clause", ["MIT"], False),
        ("MIT AND BSD-3-Clause", ["MIT", "BSD-3-Clause"], True),
        ("MIT OR GPL-3.0-only", ["MIT"], True),
        ("GPL-2.0-only OR GPL-3.0-only", ["MIT"], False),
        ("MIT AND (GPL-3.0-only OR 0BSD)", ["MIT", "0BSD"], True),
        ("(MIT OR 0BSD) AND GPL-3.0-only", ["MIT", "0BSD"], False),
        ("Apache-2.0 WITH LLVM-exception", ["Apache-2.0"], True),
        ("Apache-2.0 WITH LLVM-exception", ["Apache-2.0 WITH LLVM-exception"], True),
        ("Apache-2.0", ["Apache-2.0 WITH LLVM-exception"], False),
        ("unknown", ["MIT"], False),
        ("unknown", ["MIT", "unknown"], True),
        ("see LICENSE.txt (ask)", ["MIT"], False),
        ("see LICENSE.txt (ask)", ["see LICENSE.txt (ask)"], True),
        ("LicenseRef-ours", ["LicenseRef-ours"], True),
        ("", ["MIT"], False),
        ("MIT OR", ["MIT"], False),
        ("NOT MIT", ["MIT"], False),
    ],
)
def test_an_expression_is_allowed_by_its_ids(license: str, allowed: list[str], is_allowed: bool) -> None:
    assert (judge_license(license, make_policy(allowed)) == ALLOWED) is is_allowed


@pytest.mark.parametrize(
    ("license", "allowed", "expected"),
    [
        ("['MIT']", ["MIT"], ALLOWED),
        ('["MIT", "Apache-2.0"]', ["MIT"], NOT_ALLOWED),
        ('["MIT", "Apache-2.0"]', ["MIT", "apache 2"], ALLOWED),
        ('{"name": "MIT"}', ["MIT License"], ALLOWED),
        ("BSD 3-Clause", ["BSD-3-Clause"], ALLOWED),
        ("https://creativecommons.org/licenses/by/4.0/", ["CC BY 4.0"], ALLOWED),
        ("CC-BY-4.0", ["https://creativecommons.org/licenses/by/4.0/"], ALLOWED),
        ("https://creativecommons.org/licenses/by/3.0/de/", ["CC-BY-3.0"], ALLOWED),
        ("https://creativecommons.org/licenses/by-nc/3.0/de/", ["CC-BY-3.0"], NOT_ALLOWED),
        ("public domain", ["Public Domain"], ALLOWED),
        ("GPL v3", ["GPL-*"], ALLOWED),
        ("MIT/Apache-2.0", ["MIT"], ALLOWED),
        ("[]", ["MIT"], UNKNOWN),
        ("[null]", ["MIT"], UNKNOWN),
        ("None", ["MIT"], UNKNOWN),
        ('["MIT", null]', ["MIT"], UNKNOWN),
    ],
)
def test_spellings_are_judged_like_their_spdx_expression(license: str, allowed: list[str], expected: int) -> None:
    assert judge_license(license, make_policy(allowed)) == expected


def test_a_denied_license_is_denied_in_any_spelling() -> None:
    policy = make_policy([], ["GPL v3", "CC-BY-NC-*"])
    for license in (
        "GPL-3.0",
        "https://www.gnu.org/licenses/gpl-3.0.html",
        '["MIT", "GPLv3"]',
        "CC BY-NC 4.0",
        "CC BY-NC-SA 3.0 DE",
    ):
        assert judge_license(license, policy) == DENIED


def test_verdicts_follow_the_order_of_the_column() -> None:
    column = pa.array(["MIT", "unknown", "MIT", "0BSD"])
    policy = make_policy(["MIT"])
    assert judge_licenses(column, policy).tolist() == [ALLOWED, UNKNOWN, ALLOWED, NOT_ALLOWED]
    assert judge_licenses(column.slice(1, 2), policy).tolist() == [UNKNOWN, ALLOWED]
    assert judge_licenses(pa.array([], pa.string()), policy).tolist() == []


@pytest.mark.parametrize(
    ("license", "allow", "deny", "expected"),
    [
        ("MIT", [], ["GPL-3.0-only"], ALLOWED),
        ("GPL-3.0-only", [], ["GPL-3.0-only"], DENIED),
        ("GPL-3.0-only", ["GPL-3.0-only"], ["GPL-3.0-only"], DENIED),
        ("gpl-3.0", [], ["GPL-3.0"], DENIED),
        ("GPL-3.0+", [], ["GPL-*"], DENIED),
        ("LGPL-3.0-only", [], ["GPL-*"], ALLOWED),
        ("MIT AND GPL-3.0-only", ["MIT"], ["GPL-3.0-only"], DENIED),
        ("MIT AND GPL-3.0-only", ["MIT"], [], NOT_ALLOWED),
        ("MIT OR GPL-3.0-only", ["MIT"], ["GPL-3.0-only"], ALLOWED),
        ("MIT OR GPL-3.0-only", [], ["MIT", "GPL-3.0-only"], DENIED),
        ("ISC OR GPL-3.0-only", ["MIT"], ["GPL-3.0-only"], NOT_ALLOWED),
        ("(MIT OR GPL-3.0-only) AND ISC", ["MIT", "ISC"], ["GPL-*"], ALLOWED),
        ("(MIT AND GPL-3.0-only) OR ISC", ["MIT"], ["GPL-*"], NOT_ALLOWED),
        ("GPL-2.0-only WITH Classpath-exception-2.0", [], ["GPL-2.0-only"], DENIED),
        (
            "GPL-2.0-only WITH Classpath-exception-2.0",
            ["GPL-2.0-only WITH Classpath-exception-2.0"],
            ["GPL-2.0-only"],
            ALLOWED,
        ),
        ("GPL-2.0-only", ["GPL-2.0-only WITH Classpath-exception-2.0"], ["GPL-2.0-only"], DENIED),
        ("MIT", ["*"], [], ALLOWED),
        ("proprietary", ["MIT"], [], NOT_ALLOWED),
        ("proprietary", [], ["MIT"], ALLOWED),
        ("see LICENSE.txt (ask)", [], ["see LICENSE.txt (ask)"], DENIED),
        ("", ["MIT"], [], UNKNOWN),
        ("unknown", ["MIT"], [], UNKNOWN),
        ("NOASSERTION", [], ["MIT"], UNKNOWN),
        ("MIT AND unknown", ["MIT"], [], UNKNOWN),
        ("MIT AND unknown", ["ISC"], [], NOT_ALLOWED),
        ("MIT OR NOASSERTION", ["MIT"], [], ALLOWED),
        ("MIT", ["unknown"], [], NOT_ALLOWED),
    ],
)
def test_deny_takes_precedence_over_allow(license: str, allow: list[str], deny: list[str], expected: int) -> None:
    assert judge_licenses(pa.array([license]), make_policy(allow, deny)).tolist() == [expected]
    scores = measure_licenses(pa.array([license]), make_policy(allow, deny)).to_pylist()[0]
    assert [scores[rule.score] for rule in RULES] == [float(expected == index) for index in range(3)]


def test_unknown_licenses_can_be_kept() -> None:
    kept = make_policy(["MIT"], is_unknown_kept=True)
    licenses = pa.array(["", "unknown", "NONE", "MIT AND NOASSERTION", "GPL-3.0-only AND unknown"])
    assert judge_licenses(licenses, kept).tolist() == [ALLOWED] * 4 + [NOT_ALLOWED]
    assert kept == make_policy(["MIT", "unknown"])


IDS = st.sampled_from(["MIT", "ISC", "0BSD", "GPL-3.0-only", "Zlib"])
EXPRESSIONS = st.recursive(
    IDS,
    lambda inner: st.tuples(inner, st.sampled_from([" AND ", " OR "]), inner).map(lambda each: f"({''.join(each)})"),
    max_leaves=6,
)


@given(EXPRESSIONS, EXPRESSIONS, st.sets(IDS), st.sets(IDS))
def test_and_takes_the_worse_verdict_and_or_the_better(left: str, right: str, allow: set[str], deny: set[str]) -> None:
    policy = make_policy(sorted(allow), sorted(deny))
    a, b, both, one = (
        judge_license(text, policy) for text in (left, right, f"{left} AND {right}", f"{left} OR {right}")
    )
    assert both == min(a, b)
    assert one == max(a, b)


@given(EXPRESSIONS, st.sets(IDS, min_size=1), st.sets(IDS), IDS)
def test_denying_more_never_permits_more(license: str, allow: set[str], deny: set[str], another: str) -> None:
    before = judge_license(license, make_policy(sorted(allow), sorted(deny)))
    assert judge_license(license, make_policy(sorted(allow), sorted(deny | {another}))) <= before


def test_violations_list_licenses_counts_and_first_documents() -> None:
    ids = pa.array([f"d{i}" for i in range(8)])
    licenses = pa.array(["MIT", "GPL-3.0-only", "", "GPL-3.0-only", "ISC", "GPL-3.0-only", "GPL-3.0-only", "MIT"])
    policy = make_policy(["MIT"], ["GPL-*"])
    violations = find_violations(ids, licenses, policy)
    assert violations == [
        ("GPL-3.0-only", "license_denied", 4, ("d1", "d3", "d5")),
        ("", "license_unknown", 1, ("d2",)),
        ("ISC", "license_not_allowed", 1, ("d4",)),
    ]
    with pytest.raises(
        UserError,
        match=r"4 documents under GPL-3.0-only \(license_denied\): d1, d3, d5 …; 1 documents under \(none\)",
    ):
        refuse_violations(violations)
    refuse_violations(find_violations(ids, pa.array(["MIT"] * 8), policy))
    assert find_violations(pa.array([], pa.string()), pa.array([], pa.string()), policy) == []
