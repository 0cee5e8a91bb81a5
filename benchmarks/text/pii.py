"""Email and IP addresses replaced: ours against datatrove's PIIFormatter on the same texts; the results are equal.

The texts are words, numbers, versions and dates; one document in ten has an address. Neither side replaces private IP
addresses.
"""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
from datatrove.pipeline.formatters import PIIFormatter

from benchmarks.measure import Result, Row, Work, compare, measure_rate
from benchmarks.text.generated import make_random_words
from model.masking.find_personal import Options
from pipeline.filter.pii.redact import redact

N_WORDS, SEED = 300, 1
NUMBERS = ["3.14159", "2024-01-31", "12:30:00", "v2.10", "1,000,000", "x[10:20]", "192.168.0.1", "f(a, b)", "0x7f3c"]


def run(*, n_docs: int = 2_000) -> Result:
    """Return megabytes per second on one core."""
    texts = make_texts(n_docs)
    column, megabytes = pa.array(texts), sum(len(text.encode()) for text in texts) / 1e6
    formatter = PIIFormatter(email_replacement="<EMAIL>", ip_replacement="<IP>")

    def ours() -> Any:
        return redact(column, ["email", "ip"], Options(only_public_ips=True)).texts

    def peer() -> list[str]:
        return [formatter.format(text) for text in texts]

    def details() -> list[Row]:
        return [
            {"variant": "ours with all kinds of personal data", "MB/s": measure_rate(lambda: redact(column), megabytes)}
        ]

    work = f"email and IP addresses in {n_docs} documents of {N_WORDS} words"
    described = Work(work, "MB/s", megabytes, "datatrove PIIFormatter")
    return compare(described, ours, peer, is_same=lambda mine, theirs: mine.to_pylist() == theirs, details=details)


def make_texts(n_docs: int) -> list[str]:
    """Return documents of words with numbers among them; one in ten has an address."""
    rng, texts = random.Random(SEED), list[str]()
    words = make_random_words(rng)
    for number in range(n_docs):
        parts = [rng.choice(NUMBERS) if rng.random() < 0.03 else rng.choice(words) for _ in range(N_WORDS)]
        if number % 10 == 0:
            email = f"{rng.choice(words)}@{rng.choice(words)}{number}.org"
            address = ".".join(str(rng.randint(130, 160)) for _ in range(4))
            parts[rng.randrange(N_WORDS)] = rng.choice([email, address])
        texts.append(" ".join(parts))
    return texts
