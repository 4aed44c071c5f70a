"""Which PCs asked, read from dnsmasq's log: strictly, and in bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sys_pxe.agent import asked
from sys_pxe.agent.asked import Asked, Log

MAC = "52:54:00:00:00:77"


def question(
    mac: str = MAC,
    vendor: str = "PXEClient:Arch:00000:UNDI:002001",
    kind: str = "DHCPDISCOVER(lan)",
    end: str = " ignored",
    number: int = 7,
) -> bytes:
    """Return the lines of one question, as dnsmasq 2.90 writes them."""
    head = f"dnsmasq-dhcp[123]: {number} "
    return (
        f"{head}available DHCP range: 192.0.2.100 -- 192.0.2.199\n"
        f"{head}vendor class: {vendor}\n{head}{kind} {mac}{end}\n"
    ).encode()


def read(*parts: bytes) -> list[Asked]:
    log = Log()
    for part in parts:
        log.feed(part, 1000)
    return log.asked()


@pytest.mark.parametrize(
    ("vendor", "firmware"),
    [
        ("PXEClient:Arch:00000:UNDI:002001", "bios"),
        ("PXEClient:Arch:00007:UNDI:003016", "uefi"),
        ("PXEClient:Arch:00009", "uefi"),
        ("HTTPClient:Arch:00016:UNDI:003001", "uefi-http"),
        ("PXEClient:Arch:00011:UNDI:003000", "other-11"),
        ("HTTPClient:Arch:00007", "other-7"),
        ("sys-pxe", "stick"),
    ],
)
@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("DHCPDISCOVER(lan)", " ignored"),
        ("DHCPDISCOVER(lan) 192.0.2.55", " ignored"),
        ("DHCPDISCOVER(lan)", " "),
        ("PXE(lan)", " proxy-ignored"),
        ("PXE(lan)", ""),
    ],
)
def test_who_asks_to_boot_is_seen(
    vendor: str, firmware: str, kind: str, end: str
) -> None:
    text = question(vendor=vendor, kind=kind, end=end)
    assert read(text) == [Asked(MAC, firmware, 1000)]


@pytest.mark.parametrize(
    "text",
    [
        # a telephone, a PC that runs, what is no question
        question(vendor="android-dhcp-14"),
        question(vendor="sys-pxe-2"),
        question(kind="DHCPOFFER(lan) 192.0.2.100"),
        question(vendor="PXEClient:Arch:7"),
        question(vendor="PXEClient:Arch:000070"),
        question(vendor="xPXEClient:Arch:00000"),
        # no card has these
        question(mac="ff:ff:ff:ff:ff:ff"),
        question(mac="01:00:5e:00:00:01"),
        question(mac="52:54:00:00:00"),
        question(mac="52:54:00:00:00:77:88"),
        # two questions that are not one
        question(end="").replace(b": 7 DHCP", b": 8 DHCP"),
        # another program's words
        question().replace(b"dnsmasq-dhcp[", b"dnsmasq-tftp["),
        question().replace(b"\n", b"\r"),
        b"\n" * 5000,
    ],
)
def test_all_else_is_not(text: bytes) -> None:
    assert read(text) == []


def test_pieces_are_put_together() -> None:
    text = question() + question("52:54:00:00:00:78")
    whole = read(text)
    assert len(whole) == 2
    assert read(*(text[i : i + 1] for i in range(len(text)))) == whole


def test_the_lines_are_handed_on_and_cut_short() -> None:
    log = Log()
    assert log.feed(b"one\ntwo\nthr", 1) == [b"one", b"two"]
    assert log.feed(b"ee\n", 1) == [b"three"]
    (long,) = log.feed(b"x" * 5000 + b"\n", 1)
    assert len(long) == asked.LINE_MAX


def test_a_line_without_an_end_takes_no_memory_and_speaks_once() -> None:
    log = Log()
    said = [line for _ in range(100) for line in log.feed(b"y" * 4096, 1)]
    assert said == [b"y" * asked.LINE_MAX]
    # its end is no line of its own, though it looks like one
    assert log.feed(question().splitlines()[1] + b"\nok\n", 1) == [b"ok"]
    assert log.asked() == []


def test_strangers_are_bounded_and_clients_are_kept() -> None:
    log = Log()
    log.keep({MAC})
    log.feed(question(), 5)
    for n in range(1000):
        log.feed(question(f"52:54:00:01:{n // 256:02x}:{n % 256:02x}"), 10 + n)
    found = log.asked()
    assert len(found) == asked.STRANGERS_MAX + 1
    assert found[0] == Asked(MAC, "bios", 5)
    assert found[-1].seen == 1009
    # a client that the site no longer names is a stranger, the oldest here
    log.keep(())
    assert MAC not in [one.mac for one in log.asked()]


def test_who_asks_again_is_the_newest() -> None:
    log = Log()
    for n, mac in enumerate((MAC, "52:54:00:00:00:78", MAC)):
        log.feed(question(mac), n)
    assert [(one.mac[-2:], one.seen) for one in log.asked()] == [
        ("78", 1), ("77", 2),
    ]  # fmt: skip


def test_ipxe_does_not_hide_how_its_firmware_asked() -> None:
    ipxe = question(vendor="PXEClient:Arch:00007").replace(
        b"\ndnsmasq-dhcp[123]: 7 DHCP",
        b"\ndnsmasq-dhcp[123]: 7 user class: iPXE\ndnsmasq-dhcp[123]: 7 DHCP",
    )
    assert ipxe.count(b"iPXE") == 1
    http = question(vendor="HTTPClient:Arch:00016")
    assert [one.firmware for one in read(http, ipxe)] == ["uefi-http"]
    # alone, it is all that is known; and a firmware's word is always taken
    assert [one.firmware for one in read(ipxe)] == ["uefi"]
    bios = question()
    assert [one.firmware for one in read(http, ipxe, bios)] == ["bios"]


def test_the_client_program_does_not_hide_how_its_firmware_asked() -> None:
    ours = question(vendor="sys-pxe")
    assert [one.firmware for one in read(question(), ours)] == ["bios"]
    # a PC whose loader asked nothing was started by a stick, until it asks
    assert [one.firmware for one in read(ours, ours)] == ["stick"]
    assert [one.firmware for one in read(ours, question())] == ["bios"]


def test_many_open_questions_are_forgotten() -> None:
    log = Log()
    lines = question().splitlines(keepends=True)
    log.feed(lines[1], 1)
    for n in range(1000, 5000):
        log.feed(question(number=n).splitlines(keepends=True)[1], 1)
    log.feed(lines[2], 1)
    assert log.asked() == []


@given(st.lists(st.binary(max_size=300)))
def test_junk_never_breaks_the_reader(parts: list[bytes]) -> None:
    read(*parts)


def test_our_own_question_is_nobodys() -> None:
    log = Log()
    log.ignore(MAC)
    log.feed(question() + question(mac="52:54:00:00:00:78", number=8), 1000)
    assert [one.mac for one in log.asked()] == ["52:54:00:00:00:78"]
