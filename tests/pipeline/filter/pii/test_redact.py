"""Planted personal data is replaced, the rest of the text is unchanged, and redaction is idempotent."""

from __future__ import annotations

import re
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from stdnum import iban, luhn

from model.masking.find_personal import KINDS, make_placeholder
from pipeline.filter.pii.redact import redact

AROUND = (
    "{}",
    "Write to {} today.",
    "({})",
    "a,\n{}\nb",
    "it is: {}; or not",
    "<b>{}</b>",
    "“{}”",
    "见{}。",
    '"{}",',
    "| {} |",
)
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}([._+-][a-z0-9]{1,8}){0,2}", fullmatch=True)
DOMAINS = st.from_regex(
    r"[a-z][a-z0-9]{1,9}(-[a-z0-9]{1,5})?(\.[a-z]{2,8})?\.(com|org|de|co\.uk|museum|io)", fullmatch=True
)


def digits(n: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=n, max_size=n)


@st.composite
def emails(draw: st.DrawFn) -> str:
    name, domain = draw(NAMES), draw(DOMAINS)
    assume(name not in ("git", "hg", "svn") and not domain.endswith(("example.com", "example.org")))
    return f"{name}@{domain}"


@st.composite
def cards(draw: st.DrawFn) -> str:
    prefix, size, groups = draw(
        st.sampled_from(
            [("4", 16, (4, 4, 4, 4)), ("53", 16, (4, 4, 4, 4)), ("2345", 16, (4, 4, 4, 4)), ("37", 15, (4, 6, 5))]
        )
    )
    body = prefix + draw(digits(size - 1 - len(prefix)))
    number = body + luhn.calc_check_digit(body)
    assume(len(set(number)) > 3 and not number.endswith("000000"))
    joint, parts, at = draw(st.sampled_from(["", " ", "-"])), [], 0
    for group in groups:
        parts.append(number[at : at + group])
        at += group
    return joint.join(parts)


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country, bank = draw(
        st.sampled_from([("DE", ""), ("GB", "NWBK"), ("NL", "ABNA"), ("FR", ""), ("CH", ""), ("NO", "")])
    )
    size = {"DE": 22, "GB": 22, "NL": 18, "FR": 27, "CH": 21, "NO": 15}[country]
    account = bank + draw(digits(size - 4 - len(bank)))
    number = country + iban.calc_check_digits(f"{country}00{account}") + account
    return " ".join(number[i : i + 4] for i in range(0, size, 4)) if draw(st.booleans()) else number


@st.composite
def ips(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        parts = [draw(st.integers(64, 99)), *(draw(st.integers(0, 255)) for _ in range(3))]
        assume(parts[1] and sum(part < 20 for part in parts) < 1)  # else it looks like a version
        return ".".join(map(str, parts))
    groups = [f"{draw(st.integers(1, 0xFFFF)):x}" for _ in range(5)]
    return "2a00:" + ":".join(groups[:3]) + "::" + groups[3]


@st.composite
def phones(draw: st.DrawFn) -> str:
    area, exchange, line = (
        draw(st.from_regex(r"[2-46-9][02-9][0-9]", fullmatch=True)),
        "7" + draw(digits(2)),
        draw(digits(4)),
    )
    assume(exchange != "711")
    european = draw(
        st.sampled_from(["+44 20 {} {}", "+49 89 {}{}", "+33 1 {} {}", "+31-20-{}{}", "+39{}0{}55", "Tel. 0{}/{}"])
    )
    forms = [
        f"({area}) {exchange}-{line}",
        f"{area}-{exchange}-{line}",
        f"+1 {area} {exchange} {line}",
        f"+1{area}{exchange}{line}",
    ]
    assume(len(set(area + exchange + line)) > 3 and line != "0000")
    return draw(st.sampled_from([*forms, european.format(draw(digits(3)), line)]))


KEYS = {
    r"AKIA[A-Z2-7]{16}",
    r"ghp_[A-Za-z0-9]{36}",
    r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    r"glpat-[A-Za-z0-9_-]{20}",
    r"xoxb-[0-9]{11}-[0-9]{12}-[A-Za-z0-9]{24}",
    r"sk_live_[A-Za-z0-9]{24}",
    r"AIza[A-Za-z0-9_-]{35}",
    r"sk-proj-[A-Za-z0-9]{48}",
    r"sk-ant-api03-[A-Za-z0-9]{40}",
    r"hf_[A-Za-z]{34}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{60}",
    r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}",
    r"eyJ[A-Za-z0-9_-]{30}\.eyJ[A-Za-z0-9_-]{60}\.[A-Za-z0-9_-]{43}",
    r"dop_v1_[a-f0-9]{64}",
    r"hooks\.slack\.com/services/T[A-Z0-9]{9}/B[A-Z0-9]{9}/[A-Za-z0-9]{24}",
}


@st.composite
def keys(draw: st.DrawFn) -> str:
    key = draw(st.from_regex(re.compile(draw(st.sampled_from(sorted(KEYS))), re.ASCII), fullmatch=True))
    body = re.split(r"[_.-]", key)[-1]
    assume(len(set(body)) >= min(10, len(body) // 2) and key[-1] not in "-_" and not re.search(r"(?i)x{6}|0{8}", key))
    return key


PLANTS = {"email": emails(), "card": cards(), "iban": ibans(), "ip": ips(), "phone": phones(), "key": keys()}


@pytest.mark.parametrize("kind", PLANTS)
def test_planted_data_is_replaced(kind: str) -> None:
    @given(PLANTS[kind])
    def check(planted: str) -> None:
        kept = "Tel. " * planted.startswith("Tel. ") + make_placeholder(kind)
        got = redact(pa.array([around.format(planted) for around in AROUND]))
        assert got.texts.to_pylist() == [around.format(kept) for around in AROUND]
        for counts in got.counts.to_pylist():
            assert {name: n for name, n in counts.items() if n} == {f"pii_{kind}": 1}

    check()


PIECES = st.sampled_from(
    [
        *(
            "a",
            "1",
            "@",
            ".",
            "-",
            "+",
            " ",
            ":",
            "/",
            "(",
            ")",
            "<",
            ">",
            "#",
            "=",
            "\n",
            "_",
            "é",
            "电",
            "12",
            "415",
            "555-",
            "+44 ",
        ),
        *(
            "4111 1111 1111 1111",
            "phone ",
            "a@b.co",
            "8.8.8.8",
            "ip ",
            "2a00:",
            "::1",
            "AKIA",
            "eyJ",
            "GB82WEST12345698765432",
        ),
        *("536-90-4399", "sk-", "0170 ", "fax", "X1234567L", "1.2.3.4:80", "-----BEGIN "),
    ]
)
TEXTS = st.lists(PIECES, max_size=25).map("".join)


@given(st.lists(TEXTS, max_size=4))
@settings(max_examples=150)
def test_redaction_is_idempotent_and_keeps_the_rest(texts: list[str]) -> None:
    column = pa.array(texts, pa.string())
    once = redact(column)
    assert redact(once.texts).texts.equals(once.texts)
    assert sum(map(sum, (redact(once.texts).counts.column(name).to_pylist() for name in once.counts.schema.names))) == 0
    for text, out, counts in zip(texts, once.texts.to_pylist(), once.counts.to_pylist(), strict=True):
        assert (text == out) == (not any(counts.values()))
        kept = "(?s)" + re.sub(r"<[A-Z_]+?>", lambda _: ".+?", re.escape(out)).replace("NATIONAL\\_ID", "NATIONAL_ID")
        assert re.fullmatch(kept, text)


@given(TEXTS, TEXTS)
def test_rows_do_not_affect_each_other(left: str, right: str) -> None:
    alone = [redact(pa.array([text])).texts.to_pylist()[0] for text in (left, right)]
    assert redact(pa.array([left, right])).texts.to_pylist() == alone
    assert redact(pa.array(["phone ", left, right, "1"]).slice(1, 2)).texts.to_pylist() == alone


def test_only_the_requested_kinds_are_replaced() -> None:
    text = pa.array(["a.b@gmail.com or 415-555-2671"])
    assert redact(text, ["phone"]).texts.to_pylist() == ["a.b@gmail.com or <PHONE>"]
    assert redact(text, ["email"]).counts.to_pydict() == {"pii_email": [1]}
    assert redact(text, []).texts is text
    assert set(redact(text).counts.schema.names) == {f"pii_{kind}" for kind in KINDS}


def test_replacements_are_counted_by_row() -> None:
    texts = pa.array(["x", "a@gmail.com, b@gmail.com and 415-555-2671", "y", "93.184.216.34"])
    counts = [{kind: n for kind, n in row.items() if n} for row in redact(texts).counts.to_pylist()]
    assert counts == [{}, {"pii_email": 2, "pii_phone": 1}, {}, {"pii_ip": 1}]
    assert redact(texts, []).counts.num_columns == 0


def test_a_column_without_any_is_returned_unchanged() -> None:
    column = pa.array(["nothing here", "", "x = 3.14159265358979 # 2024-01-01"])
    assert redact(column).texts is column
    assert redact(pa.array([], pa.string())).counts.num_rows == 0


KEPT = (
    "@property\ndef f(self): return a @ b.T + x@np.linalg.inv(y)",
    "git clone git@github.com:owner/repo.git; ssh://git@host.org/x; https://user:secret@host.com/",
    "someone@example.com, root@localhost, me@host.local, a@b, logo@2x.png, getty@tty1.service, react@18.2.0",
    "0.0.0.0 192.0.2.1 198.51.100.7 203.0.113.9 255.255.255.0 224.0.0.1",
    "version 93.184.216.34, v1.2.3.4, 1.2.3.4 and 2.31.0.1, pkg==93.184.216.34, 1.3.6.1.4.1.311, section 93.120.77.66",
    "2001:db8::1 x[2000::2] std::vector 12:34:56:78 00:1b:63:84:45:e6 2001:4860::/32 3000:1",
    "2024-01-31 12:34:56.123456, 20240131T123456Z, 1706704496, 1706704496123456789, 31/12/2024 08:00",
    "3.141592653589793 2.718281828459045e+10 -2147483648 +2147483647 0.4111111111111111 6.02214076e+23 1,234,567,890",
    "978-0-306-40615-7 ISBN 0-306-40615-2 9780306406157 DOI 10.1000/182 arXiv:2301.12345 ISSN 2049-3630",
    "d41d8cd98f00b204e9800998ecf8427e 550e8400-e29b-41d4-a716-446655440000 sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "array([4532, 1488, 343, 6467]) 1 2 3 4 5 6 7 8 9 10 11 12 default_rng(348932549825235) 4111111111111112",
    "555-0123, 415-555-0123, (212) 555-0199, 800 556 1234 1.800.5551234 12-34-56 123-45-6789 000-12-3456 911-411-2222",
    "AKIAIOSFODNN7EXAMPLE ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx hf_hub_download sk-your-api-key-goes-here",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE----- task-force risk-averse desk-1234567890 eyJust.eyJump.x",
    "GB82WEST12345698765433 DE00 1234 5678 AB12 CD34 EF56 12345678A X1234567A RSSMRA85T10A562T 529.982.247-24",
    "#4111111111111111 $415-555-2671 id=4111111111111111 /4111111111111111/ 0x4111111111111111 foo-415-555-2671",
    "<EMAIL> <PHONE> 020 7946 0958 <CARD> <IP> 1.2.3.4",
)


@pytest.mark.parametrize("text", KEPT)
def test_other_text_is_kept(text: str) -> None:
    assert redact(pa.array([text])).texts.to_pylist() == [text]


def test_of_two_overlapping_spans_the_outer_is_replaced() -> None:
    texts = [
        "415-555-2671@mail.com",
        "josé.núñez@correo.es",
        "发邮件到a.b@qq.com吧",
        "mailto:x.y@z.org?subject=a",
        "8.8.8.8@ip.org",
    ]
    assert redact(pa.array(texts)).texts.to_pylist() == [
        "<EMAIL>",
        "<EMAIL>",
        "发邮件到<EMAIL>吧",
        "mailto:<EMAIL>?subject=a",
        "<EMAIL>",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssh root@93.184.216.34", "ssh root@<IP>"),
        ("User/93.184.216.34|talk", "User/<IP>|talk"),
        ("http://93.184.216.34:8080/x 93.184.216.34/24", "http://<IP>:8080/x <IP>/24"),
        ("[2a00:1450:4001:81b::200e]:443", "[<IP>]:443"),
        ("https://x.org?to=a.b@mail.net&x", "https://x.org?to=<EMAIL>&x"),
        ("*a.b@mail.net* a.b@mail.net-- a.b@mail.net. <a.b@mail.net>", "*<EMAIL>* <EMAIL>-- <EMAIL>. <<EMAIL>>"),
        ("Tel.: 030/1234567, Fax (030) 1234568", "Tel.: <PHONE>, Fax <PHONE>"),
        ("(Phone 020 7946 0958)", "(Phone <PHONE>)"),
        ("call us at 0800 123456", "call us at <PHONE>"),
        ("Visa 4222222222222 or card no. 6304000000000000000", "Visa <CARD> or card no. 6304000000000000000"),
    ],
)
def test_the_surrounding_text_is_kept(text: str, expected: str) -> None:
    assert redact(pa.array([text])).texts.to_pylist() == [expected]


def test_a_private_key_is_replaced_from_first_to_last_dash() -> None:
    body = "\n".join("MIIEpAIBAAKCAQEAw3b9jHx7kQ2mP4sT6vY8zA1cE3gI5kM7oQ9sU1wY3aC5eG7i" for _ in range(25))
    for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "):
        text = f"key:\n-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----\nend"
        assert redact(pa.array([text])).texts.to_pylist() == ["key:\n<KEY>\nend"]


def test_an_azure_connection_string_keeps_its_names() -> None:
    secret = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5zA7bC9dE1fG3hI5jK7lM9nO1pQ3rS5tU7vW9xY1zA3bC5dE7fG9h"[:86] + "=="
    text = f"AccountName=ours;AccountKey={secret};EndpointSuffix=core.windows.net"
    assert redact(pa.array([text])).texts.to_pylist() == [
        "AccountName=ours;AccountKey=<KEY>;EndpointSuffix=core.windows.net"
    ]


HOSTILE = (
    *(
        "1-",
        "a@",
        "eyJ",
        "eyJaaaaaaaaaaaa.",
        "eyJaaaaaaaaaaaaa-",
        "a@b.",
        "1 ",
        "1.",
        "(1",
        "+1",
        "+44 1 ",
        "12:",
        "2a00:",
        "1.2.3.4.",
    ),
    *(
        "phone ",
        "phone 1",
        "tel 0 ",
        "-----BEGIN RSA PRIVATE KEY-----",
        "PRIVATE KEY-----A",
        "sk-aaaaaaaaaaaaaaaaaaaa-",
        "4111 ",
    ),
    *(
        "AKIA",
        "GB82 WEST ",
        "X1",
        "a.",
        "a.a@a.a.",
        "xoxb-1",
        "(415) ",
        "415-555-",
        "://a:",
        "SG.",
        "0",
        "@",
        "123-45-6789",
    ),
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_takes_linear_time(piece: str) -> None:
    """Redact 300 kB of each; quadratic time would take minutes."""
    text = (piece * (300_000 // len(piece) + 1))[:300_000]
    redact(pa.array([text, text[::-1], " ".join(text[:1000])]))


def test_redaction_is_deterministic() -> None:
    column = pa.array(["a@gmail.com 415-555-2671 " * 3, "93.184.216.34"] * 50)
    first, second = redact(column), redact(column)
    assert first.texts.equals(second.texts)
    assert first.counts.equals(second.counts)
    check: Callable[[str], int] = lambda name: sum(first.counts.column(name).to_pylist())  # noqa: E731
    assert (check("pii_email"), check("pii_phone"), check("pii_ip")) == (150, 150, 50)
