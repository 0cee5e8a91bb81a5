"""One text is masked exactly as a column of texts is."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.guard.masking import PersonalMasker
from model.masking.find_personal import KINDS, mask_text
from pipeline.filter.pii.redact import redact

SAMPLES = (
    "Write to anna.miller@firm.org or call +49 30 901820.",
    "card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00, host 8.8.4.4",
    "key ghp_a8F3kL0qZ7xW2vB9nM4cT6yR1sD5hJ8gU0eK and the word émile",
    "nothing here",
    "",
)
texts = st.lists(st.sampled_from([*SAMPLES, " ", "\n", "x@y.de", "🙂", "+49 30 901820"])).map("".join)


@given(texts)
def test_a_text_and_a_column_of_it_are_masked_alike(text: str) -> None:
    masked = mask_text(text)
    redacted = redact(pa.array([text, "other", text], pa.string()))
    assert redacted.texts.to_pylist() == [masked.text, "other", masked.text]
    for kind in KINDS:
        assert redacted.counts.column(f"pii_{kind}").to_pylist()[0] == masked.counts.get(kind, 0)
    assert mask_text(masked.text) == (masked.text, {})


def test_only_the_kinds_that_are_asked_for() -> None:
    text, counts = PersonalMasker().mask(SAMPLES[0], ["email"])
    assert text == "Write to <EMAIL> or call +49 30 901820."
    assert counts == {"email": 1}
    assert PersonalMasker().mask(SAMPLES[0], ["*"])[1] == {"email": 1, "phone": 1}
    with pytest.raises(ValueError, match="no such kind"):
        PersonalMasker().mask("a", ["name"])


def test_lone_surrogates_do_not_stop_masking() -> None:
    assert mask_text("\ud800 mail anna@firm.org").text == "? mail <EMAIL>"
