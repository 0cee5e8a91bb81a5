"""Test measuring the depth and attributes of HTML without parsing it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.download.pages.html_shape import FLAT, FLAT_TAGS, encode_name, measure_shape


@given(st.integers(0, 3_000), st.integers(0, 50))
def test_depth_is_the_number_of_open_elements(deep: int, wide: int) -> None:
    page = b"<div>" * deep + b"text" + b"</div>" * deep + b"<span>x</span>" * wide
    assert measure_shape(page).depth == max(deep, min(wide, 1))


@given(st.lists(st.sampled_from(['a="x y > z"', "b='c d'", "e=f", "g", 'h=""', "i = j"]), max_size=40))
def test_attributes_are_counted_outside_their_values(attributes: list[str]) -> None:
    n = sum(2 if attribute == "i = j" else 1 for attribute in attributes)  # an overestimate
    assert len(attributes) <= measure_shape(f"<p {' '.join(attributes)}>x</p>".encode()).attributes <= n


def test_scripts_comments_and_flat_elements_add_no_depth() -> None:
    page = b"<script>'<div><div>'</script><style>a<b</style><!-- <i><i><i> --><br><p>a<p>b<li>c<img src=x/>"
    assert measure_shape(page) == (0, 1, [])


def test_every_flat_element_has_its_own_slot() -> None:
    assert sorted(FLAT[FLAT > 0].tolist()) == sorted(encode_name(name) for name in FLAT_TAGS)


@given(st.text("<>-! /ab'"))
def test_a_comment_ends_at_its_end_marker(text: str) -> None:
    inside = text.replace("-->", "").encode()
    if not inside.endswith(b"-"):
        assert measure_shape(b"<!--" + inside + b"--><i>").depth == 1


@given(st.integers(0, 20), st.sampled_from(["licens", "LICENS", "rights", "Rights"]), st.integers(0, 20))
def test_a_license_is_found_anywhere_in_a_tag(before: int, name: str, after: int) -> None:
    assert measure_shape(f"<a {'s' * before}{name}{'i' * after}>".encode()).license_tags
    assert not measure_shape(f"<a {'s' * before}{name[:-1]}{'i' * after}>".encode()).license_tags


def test_a_license_is_found_in_tags_only() -> None:
    assert measure_shape(b'<a rel="license" href="x">').license_tags
    assert measure_shape(b"<meta name=DC.Rights content=x>").license_tags
    assert not measure_shape(b"<p>the license and all rights</p><a href=/licence>x</a>").license_tags


def test_the_range_of_a_tag_that_may_name_a_license_is_found() -> None:
    page = b'<p>x<a class=y href="/licenses/by">CC BY</a><link rel=stylesheet href=x>'
    assert [page[start:end] for start, end in measure_shape(page).license_tags] == [b'<a class=y href="/licenses/by">']


@given(st.binary(max_size=300))
def test_any_bytes_can_be_measured(page: bytes) -> None:
    shape = measure_shape(page)
    assert 0 <= shape.depth <= len(page)
    assert 0 <= shape.attributes <= len(page)
