"""The chain: every change of rows is found, wherever it is, also by somebody who computes the hashes anew."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.journal.audit_chain import ChainHead, extend_chain, make_genesis, make_mac, make_record, verify_chain

Row = tuple[int, str, bytes]
N_ROWS = 60
ROWS = extend_chain(make_genesis("acme"), [make_record({"what": "x", "n": number}) for number in range(N_ROWS)])
HEAD = ChainHead(ROWS[-1][0], ROWS[-1][2])


def is_found(rows: list[Row]) -> bool:
    """Return whether verification tells rows from the anchored chain."""
    report = verify_chain("acme", rows, [HEAD])
    return bool(report.problems) or report.head != HEAD


def edit(rows: list[Row], at: int, rng: random.Random) -> list[Row]:
    """Change, swap, remove, add or repeat rows in one of many ways, perhaps with hashes that fit from there on."""
    changed = list(rows)
    seq, record, digest = changed[at]
    kind = rng.randrange(8)
    if kind == 0:
        place = rng.randrange(len(record))
        changed[at] = (seq, record[:place] + chr(ord(record[place]) ^ 1) + record[place + 1 :], digest)
    elif kind == 1:
        place = rng.randrange(32)
        changed[at] = (
            seq,
            record,
            digest[:place] + bytes([digest[place] ^ (1 << rng.randrange(8))]) + digest[place + 1 :],
        )
    elif kind == 2:
        other = rng.choice([number for number in range(len(rows)) if number != at])
        changed[at], changed[other] = (seq, *changed[other][1:]), (changed[other][0], record, digest)
    elif kind == 3:
        del changed[at]
    elif kind == 4:  # cut, and the rest counted anew
        changed = [(number, *row[1:]) for number, row in enumerate([*rows[:at], *rows[at + 1 :]], 1)]
    elif kind == 5:
        changed = [(number, *row[1:]) for number, row in enumerate([*rows[:at], rows[at], *rows[at:]], 1)]
    elif kind == 6:  # another record, and all hashes from there on computed anew
        start = ChainHead(at, rows[at - 1][2]) if at else make_genesis("acme")
        changed = [*rows[:at], *extend_chain(start, ["{}", *(row[1] for row in rows[at + 1 :])])]
    else:  # the end is another one
        changed = [*rows, *extend_chain(HEAD, ["{}"])] if rng.random() < 0.5 else rows[: rng.randrange(len(rows))]
    return changed


def test_a_chain_verifies_with_its_own_head_and_any_earlier_one() -> None:
    report = verify_chain("acme", ROWS, [ChainHead(ROWS[at][0], ROWS[at][2]) for at in (0, 7, N_ROWS - 1)])
    assert (report.n_rows, report.head, report.problems) == (N_ROWS, HEAD, ())


@given(st.integers(0, N_ROWS - 1), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_every_edit_is_found(at: int, rng: random.Random) -> None:
    changed = edit(ROWS, at, rng)
    assert changed == ROWS or is_found(changed)


def test_each_of_several_edits_is_named() -> None:
    changed = list(ROWS)
    for at in (4, 19):
        changed[at] = (changed[at][0], "{}", changed[at][2])
    del changed[40]
    report = verify_chain("acme", changed)
    assert [problem.split(":")[0] for problem in report.problems] == ["row 5", "row 20", "row 41"]


def test_many_problems_are_listed_shortly() -> None:
    assert len(verify_chain("acme", [(seq, "{}", digest) for seq, _, digest in ROWS]).problems) == 21


def test_one_tenants_rows_are_none_of_another() -> None:
    assert verify_chain("globex", ROWS).problems[0].startswith("row 1:")


def test_hashes_are_what_the_documentation_says() -> None:
    digest = hashlib.sha256(b"minigpt audit 1\0acme").digest()
    for seq, record, row_hash in ROWS:
        digest = hashlib.sha256(digest + record.encode()).digest()
        assert (row_hash, record.isascii()) == (digest, True), seq


def test_records_are_canonical_and_macs_depend_on_key_and_text() -> None:
    assert make_record({"b": 1, "a": "é\n", "empty": "", "none": None}) == '{"a":"\\u00e9\\n","b":1}'
    assert len({make_mac(key, text) for key in (b"1" * 32, b"2" * 32) for text in ("a", "b", "\ud800")}) == 6
    with pytest.raises(ValueError, match="JSON"):
        make_record({"a": float("nan")})
