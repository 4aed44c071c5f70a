"""Names, numbers and digests: what is accepted, what is said otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe import names
from sys_pxe.errors import InvalidInput

HOSTILE = (
    *("", " ", "\n", "a\n", "A", "-a", ".a", "a..b", "a/b", "../x", "a b"),
    *("a" * 49, "ä", "a\0", "$a", "a;b", "a_b", "%2e"),
)


@pytest.mark.parametrize("text", ["a", "0", "2026-11-a", "r1.2", "a" * 48])
def test_a_good_name_is_returned(text: str) -> None:
    assert names.parse_name(text, "x") == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_bad_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^here: "):
        names.parse_name(text, "here")


@given(st.text(max_size=60))
def test_what_passes_as_a_name_is_harmless(text: str) -> None:
    try:
        found = names.parse_name(text, "x")
    except InvalidInput:
        return
    assert found == text
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert ".." not in found and 1 <= len(found) <= 48


def test_a_mac_address_is_lowered() -> None:
    assert names.parse_mac("52:54:00:AB:cd:01", "x") == "52:54:00:ab:cd:01"


@pytest.mark.parametrize(
    "text",
    [
        *("", "52:54:0", "52-54-00-00-00-01", "525400000001"),
        *("52:54:00:00:00:01\n", "52:54:00:00:00:0g", "52:54:00:00:00:01:02"),
    ],
)
def test_what_is_no_mac_address_is_said(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        names.parse_mac(text, "site.yaml: clients.desk-01.mac")
    assert caught.value.message == (
        f"site.yaml: clients.desk-01.mac: {text!r} is not a MAC address "
        "(expected six hex pairs)"
    )
    assert "52:54:00:00:00:01" in caught.value.hint


@pytest.mark.parametrize("text", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"])
def test_a_group_address_is_no_client(text: str) -> None:
    with pytest.raises(InvalidInput, match="is a group address"):
        names.parse_mac(text, "x")


@pytest.mark.parametrize(
    "text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n"]
)
def test_a_bad_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a SHA-256 digest"):
        names.parse_sha256(text, "x")


@given(st.integers(0, 1000))
def test_a_number_in_range_is_returned(number: int) -> None:
    assert names.parse_int(str(number), "x", 0, 1000) == number


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "01", "1.0", "1e3", " 1", "1\n", "٣", "1" * 21]
)
def test_a_number_has_one_spelling(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a decimal number"):
        names.parse_int(text, "x", 0, 10**30)


@pytest.mark.parametrize("text", ["0", "11"])
def test_a_number_out_of_range_names_the_range(text: str) -> None:
    with pytest.raises(InvalidInput, match=f"x: {text} is not in 1 to 10"):
        names.parse_int(text, "x", 1, 10)


@pytest.mark.parametrize(("text", "mib"), [("768MiB", 768), ("2GiB", 2048)])
def test_ram_is_read_in_mib(text: str, mib: int) -> None:
    assert names.parse_ram(text, "x") == mib


@pytest.mark.parametrize(
    "text",
    [
        *("", "2", "2G", "2GB", "0GiB", "-1GiB", "2 GiB", "1.5GiB"),
        *("2GiB\n", "9" * 20 + "MiB"),
    ],
)
def test_a_bad_size_of_ram_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a size of RAM") as caught:
        names.parse_ram(text, "x")
    assert caught.value.hint == "write it as 768MiB or 2GiB"


@given(st.integers(0, 250_000_000_000))
def test_times_round_trip(seconds: int) -> None:
    assert names.parse_time(names.format_time(seconds), "x") == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-11-23", "2026-11-23 18:00:00Z", "2026-11-23T18:00:00"),
        *("2026-11-23T18:00:00Z\n", "2026-13-01T00:00:00Z"),
        *("2026-02-30T00:00:00Z", "2026-11-23T24:00:00Z"),
        *("2026-11-23T23:59:60Z", "2026-11-23T18:00:00+00:00"),
        *("0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        *("1969-12-31T23:59:59Z", "٢٠٢٦-11-23T18:00:00Z"),
    ],
)
def test_a_bad_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"x: .* is not a time"):
        names.parse_time(text, "x")


@given(st.text(), st.integers(0, 50))
def test_printable_is_short_plain_ascii(text: str, limit: int) -> None:
    shown = names.printable(text, limit)
    assert len(shown) == min(len(text), limit)
    assert all(" " <= c <= "~" for c in shown)


@pytest.mark.parametrize("text", ["work", "A", "sys-net", "a_b.C-9", "x" * 31])
def test_names_of_qubes(text: str) -> None:
    assert names.parse_qube(text, "x") == text


@pytest.mark.parametrize(
    "text",
    ["", "x" * 32, "9a", "-a", "a/b", "a b", "a\n", "\u00e4", "@adminvm"],
)
def test_what_is_not_the_name_of_a_qube(text: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"here: .* is not the name of a qube"
    ):
        names.parse_qube(text, "here")
