"""Reading site.yaml: what is written counts, traps are refused."""

from pathlib import Path

import pytest

from sys_pxe.document import DOCUMENT_MAX
from sys_pxe.dom0 import sitefile
from sys_pxe.errors import InvalidInput

FIXTURES = Path(__file__).parent / "fixtures" / "site"
BROKEN = sorted(p.stem for p in FIXTURES.glob("*.expected"))


def test_the_good_fixture_is_accepted() -> None:
    _, site = sitefile.load(FIXTURES / "good.yaml")
    assert site.clients["desk-01"].profile == "office"


def test_there_is_a_message_beside_every_broken_fixture() -> None:
    written = {p.stem for p in FIXTURES.glob("*.yaml")} - {"good"}
    assert written == set(BROKEN)
    assert len(written) > 30


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_site_is_refused_with_place_and_hint(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        sitefile.load(FIXTURES / f"{name}.yaml")
    expected = (FIXTURES / f"{name}.expected").read_text("ascii")
    assert caught.value.explain() + "\n" == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("52:54:00:00:00:01", "52:54:00:00:00:01"),
        ("10:20:30:40:50:59", "10:20:30:40:50:59"),
        ("1:30", "1:30"),
        ("1e3", "1e3"),
        ("1.5", "1.5"),
        (".inf", ".inf"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("True", "True"),
        ("2026-11-23", "2026-11-23"),
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
        ("010", "010"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("=", "="),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ("'null'", "null"),
        ("9999999999999999999999", "9999999999999999999999"),
    ],
)
def test_only_plain_decimals_and_json_words_have_a_type(
    text: str, value: object
) -> None:
    data = sitefile.parse(f"key: {text}\n".encode(), "s")
    assert data == {"key": value}
    assert isinstance(data, dict)
    assert type(data["key"]) is type(value)


def test_keys_are_text_whatever_they_look_like() -> None:
    data = sitefile.parse(b"1: a\nno: b\n2026-01-01: c\n", "s")
    assert data == {"1": "a", "no": "b", "2026-01-01": "c"}


def test_a_key_that_stands_twice_in_an_inner_list_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"line 2, column 11: .* twice"):
        sitefile.parse(b"a:\n- { b: 1, b: 2}\n", "s")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist") as caught:
        sitefile.load(tmp_path / "site.yaml")
    assert "--site" in caught.value.hint


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(b"#" * (DOCUMENT_MAX + 1))
    with pytest.raises(InvalidInput, match="larger than"):
        sitefile.load(path)


def test_escapes_in_a_message_are_made_harmless() -> None:
    with pytest.raises(InvalidInput) as caught:
        sitefile.parse(b'"\\e[2J": 1\n"\\e[2J": 2\n', "s")
    assert "\x1b" not in caught.value.explain()
    assert "twice" in caught.value.message
