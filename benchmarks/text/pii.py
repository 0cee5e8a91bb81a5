"""Email and IP addresses replaced: ours beside datatrove's PIIFormatter on the same texts, which find the same ones.

The texts are words, numbers, versions and dates, and in one document of ten an address. Both sides leave private addresses.
"""

from __future__ import annotations

import random
import re
from typing import Any

import pyarrow as pa
from datatrove.pipeline.formatters import PIIFormatter

from benchmarks.measure import Result, rates
from pipeline.text.pii import redact

N_DOCS, N_WORDS, SEED = 2_000, 300, 1


def texts() -> list[str]:
    """Documents of 300 words from a vocabulary of 5,000, with figures among them."""
    rng = random.Random(SEED)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5_000)]
    figures = [
        "3.14159",
        "2024-01-31",
        "12:30:00",
        "v2.10",
        "1,000,000",
        "x[10:20]",
        "192.168.0.1",
        "f(a, b)",
        "0x7f3c",
    ]
    out: list[str] = []
    for number in range(N_DOCS):
        parts = [rng.choice(figures) if rng.random() < 0.03 else rng.choice(words) for _ in range(N_WORDS)]
        if number % 10 == 0:
            host = f"{rng.choice(words)}{number}.org"
            address = ".".join(str(rng.randint(130, 160)) for _ in range(4))
            parts[rng.randrange(N_WORDS)] = rng.choice([f"{rng.choice(words)}@{host}", address])
        out.append(" ".join(parts))
    return out


def run() -> Result:
    """Megabytes a second on one core; raises if the two leave different texts."""
    documents = texts()
    column = pa.array(documents)
    formatter = PIIFormatter(email_replacement="<EMAIL>", ip_replacement="<IP>")

    def ours() -> Any:
        return redact(column, ["email", "ip"]).texts

    def peer() -> Any:
        return [formatter.format(text) for text in documents]

    replaced = peer()
    assert ours().to_pylist() == replaced
    n_found = sum(len(re.findall("<(?:EMAIL|IP)>", text)) for text in replaced)
    megabytes = sum(len(text.encode()) for text in documents) / 1e6
    fast, slow = rates(ours, peer, megabytes)
    everything, _ = rates(lambda: redact(column), lambda: None, megabytes)
    work = (
        f"email and IP addresses in {N_DOCS} documents of {N_WORDS} words, {n_found} replaced alike"
        f" (ours with all seven kinds: {everything:.0f} MB/s)"
    )
    return Result(work, "MB/s", fast, slow, "datatrove PIIFormatter")
