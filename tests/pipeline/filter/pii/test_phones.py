"""Telephone numbers of many countries are replaced where the form or the words around it are evidence; other numbers are kept."""

from __future__ import annotations

import phonenumbers
import pyarrow as pa
import pytest

from model.masking.find_personal import Options
from model.masking.phones import PHONE_REGIONS
from pipeline.filter.params import Pii
from pipeline.filter.pii.redact import redact
from pipeline.filter.steps import make_pii_step
from pipeline.frame.errors import UserError
from tests.pipeline.filter.pii.marked import split_marked


def redact_one(text: str, regions: tuple[str, ...] = PHONE_REGIONS) -> str:
    return redact(pa.array([text]), options=Options(phone_regions=regions)).texts[0].as_py()


MARKED = (
    "They are not answering at {88 684-334} or on {0487 23 46 71}.",
    "How can we reach you? You can call {73 448 266}",
    "Phone:\n{60-56-85-91}\n\nE-mail: none",
    "Desk: {+1-903-140-4508x769}\nFax: {259.735.7502x459}",
    "12 Stone Road\n{(84) 7564-8830} office\n{001-490-155-3846} fax\n{2813882583} mobile",
    "Bahnhofstr. 1\n {089 72 63 41}-Office\\,{(978)645-9740x11144}-Fax",
    "I would like to stop receiving messages to {0688 872 49 99}",
    "I got no message on my registered {668 5702}.",
    "Tel {06 12 34 56 78}, tél. : {01 42 68 53 00}, T: {+49 30 1234567}, Móvil {612 34 56 78}, Handy {0171/1234567}",
    "电话：{13912345678}，手机 {139 1234 5678}。 тел. {8 912 345-67-89}",
    "{+1 (415) 555-2671 ext. 12}, {415-555-2671 x4587}, call me at {020 7123 4567 extension 9}, {166-684-7899} fax",
    "tel:{+1-415-555-2671;ext=12}; {(+44) 20 7123 4567}; {0049 89 1234567}; {+44 (0)20 7123 4567}",
    "{020 7123 4567} {(020) 7123 4567} {030 1234567} {01.42.68.53.00} {06-12345678} {03-1234-5678} {(85) 5986-8343} {07911 123456}",
    "Phone {020\u00a07123\u00a04567} or {+49\u00a089\u00a01234567} or {415\u2011555\u20112671}",
)


@pytest.mark.parametrize("marked", MARKED)
def test_numbers_with_evidence_are_replaced(marked: str) -> None:
    text, expected = split_marked(marked, "<PHONE>")
    assert redact_one(text) == expected


KEPT = (
    "51 Franklin Street, Fifth Floor, Boston, MA 02110-1301 USA; ZIP 90210-1234",
    "Phys. Rev. E 71, 036108 (2005); Numer. Anal. 1 (1981) 267-283; ISSN 0377-0427 (0962-4929) <0909.4061> arXiv:0911.2093",
    "[0.1545328 , 0.53664833] (0.31266, 0.6931472) array([-0.95, 0.86114777]) 0.12 0.34567 1e-17+17.20477401j",
    "48 b9 01 20 00 04 80 \tmovabs; 01 02 03 04 05; 001 002 003 004; 0000 0001 0002 0003; 0123 4567 8901",
    "2020-01-01 10:00:00, 01/02/2020, 01.02.2020 08:00, messages to 2020-2021, 2019–2020 office, registered 01-02-2003",
    "call 12345678, contact 1234567890123456, dial 0x1234567, text=123456789, reached 1 000 000 home",
    "020 7946 0123, 0161 496 0123, 07700 900123, (212) 555-0199, 020 1234, 12 345 678 mobile devices",
    "x = 0612345678 + 02071234567; 0612 345; port 8080-8081, 10.0.0 (12) 345",
)


@pytest.mark.parametrize("text", KEPT)
def test_other_numbers_are_kept(text: str) -> None:
    assert redact_one(text) == text


@pytest.mark.parametrize("region", [region for region in PHONE_REGIONS if region not in ("US", "PT", "HU", "ES")])
def test_national_forms_need_their_region(region: str) -> None:
    """Each region's example number in libphonenumber's national format is found if the region is configured."""
    number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.FIXED_LINE)
    assert number is not None
    text = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    if len(text) < 8 or text.isdigit():
        return
    assert redact_one(f"and {text} was", (region,)) == "and <PHONE> was"
    assert redact_one(f"and {text} was", ()) == f"and {text} was"
    assert redact_one(f"phone {text}, please", ()) == "phone <PHONE>, please"


def test_every_country_is_covered_in_international_form() -> None:
    texts: list[str] = []
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None and len(str(number.national_number)) > 6:
                texts.append(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL))
    assert len(texts) > 400
    found = redact(pa.array([f"({text})" for text in texts])).texts.to_pylist()
    assert [text for text, out in zip(texts, found, strict=True) if out != "(<PHONE>)" and "555" not in text] == []


def test_an_unknown_region_is_refused() -> None:
    with pytest.raises(UserError, match=r"filter\.pii\.phone_regions: no such region"):
        make_pii_step(Pii(phone_regions=["GB", "UK"]))
