"""The boot matrix: each firmware and path to READY, or refused by whom it
should be. ``build/matrix.json`` gets one object for each row."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from sys_pxe import files, manifest, plan, signature, site
from sys_pxe.dom0 import firststage, securekeys, unified
from sys_pxe.dom0.state import State
from sys_pxe.lab import traffic
from sys_pxe.lab.machine import Machine
from sys_pxe.lab.world import BOOT_SECONDS, FAILED, IN_RAM, World, site_data
from tests import guide
from tests.matrix import DESK, FIRST, READY, Row, booting, named

BUILD = Path(__file__).resolve().parents[2] / "build"
TFTP_MAX = 2_000_000
REFUSED_SECONDS = 240.0
NEWER = "newer"
XEN = "(XEN) Xen version"
STARTED = r"\(XEN\) Xen version"
# the first that the client program says
INITRAMFS = "sys-pxe: hidden from dom0"
# seconds between two looks at a screen that scrolls
GLANCE = 0.2


SECURE = Row("uefi", "pxe", True, "virtio-net-pci")
INSECURE = Row("uefi", "pxe", False, "virtio-net-pci")
# what an unsigned script adds: words before "--" choose a section of the
# image's configuration, of which there is none here, those after it are Xen's
LIES = ("-- loglvl=lie", "elsewhere")
BYTES_MAX = 1.3
# iPXE asks the firmware to load the image; it passes on that it would not, the
# older ones as a format that they do not know
NOT_LOADED = r"Could not (select|boot): (Exec format error|Permission denied)"
# what is wrong -> the link that refuses it, what is said then, and what the
# same bytes do where nothing checks them
REFUSED = {
    "unsigned loader": (
        "loader",
        r"to load Boot.*Access Denied",
        r"iPXE [0-9.]+",
    ),
    "changed image": ("image", NOT_LOADED, STARTED),
    "unsigned image": ("image", NOT_LOADED, STARTED),
    "image of another key": ("image", NOT_LOADED, STARTED),
}


def record(found: dict[str, object]) -> None:
    """Keep a row of this run, of which all was seen that should be."""
    path = BUILD / "matrix.json"
    rows = json.loads(path.read_text("ascii")) if path.exists() else []
    text = json.dumps([*rows, found], indent=1) + "\n"
    files.write(path, text.encode("ascii"))


def result(
    world: World, row: Row, seconds: float, refused_at: str | None = None
) -> dict[str, object]:
    sent = traffic.counted(world.lan)
    return {
        "firmware": row.firmware,
        "path": row.path,
        "secure_boot": row.secure_boot,
        "nic": row.nic,
        "ready": refused_at is None,
        "refused_at": refused_at,
        "seconds": round(seconds, 1),
        "tftp_bytes": sent["tftp"],
        "http_bytes": sent["http"],
    }


@pytest.mark.parametrize("row", READY, ids=named)
def test_it_boots_to_the_login(world: World, row: Row) -> None:
    with booting(world, row) as machine:
        screen = glances(machine) if row.firmware == "bios" else ""
        machine.wait_for(INITRAMFS, BOOT_SECONDS)
        booted = traffic.counted(world.lan)
        machine.wait_for(IN_RAM, BOOT_SECONDS)
        seconds = machine.login(BOOT_SECONDS)
        found = result(world, row, seconds)
        command_line = machine.command("cat /proc/cmdline")
        log = machine.command("dmesg | grep -ci 'secure boot enabled'; true")
    settings = plan.settings(signed_site(world), DESK.profile)
    if row.firmware == "uefi":
        # nothing but what the image holds: no card; Xen puts the name of the
        # section first. A stick names the server
        words = ["kernel", *settings.all_kernel_options]
        if row.path == "stick":
            words.append("syspxe.server=http://192.0.2.1")
        assert command_line.split() == words
        check_bytes(world, booted)
    assert (log.strip() != "0") == row.secure_boot
    sent = found["tftp_bytes"]
    assert isinstance(sent, int) and sent < TFTP_MAX
    # by TFTP where the firmware knows no better, else not at all
    assert (sent > 0) == (row.path == "pxe")
    state = world.client_row(DESK)
    assert (state["stage"], state["release"]) == ("handover", FIRST)
    check_measured(world, row)
    # what the guide's page for such a PC says that one sees
    lines = guide.quoted(guide.PAGES[row.firmware, row.path], "firmware")
    assert guide.unseen(lines, f"{screen}\n{machine.console.text}") == []
    record(found)


def check_bytes(world: World, booted: dict[str, int]) -> None:
    """A UEFI PC fetches little more than a BIOS PC: its three boot files."""
    release = State(world.state).release(FIRST)
    bios = sum(release.find(role).size for role in manifest.BOOT_ROLES)
    assert booted["tftp"] + booted["http"] < BYTES_MAX * bios


def check_measured(world: World, row: Row) -> None:
    """What the TPM says is what the release gives; without one, nothing."""
    text = world.command("client", "show", DESK.name, "--json", shown=False)
    shown = json.loads(text)
    if not row.secure_boot:
        assert shown["tpm_quote"] is None
        return
    assert shown["tpm_quote"] == "holds"
    assert (shown["tpm_release"], shown["tpm_boot_files"]) == ("equal",) * 2
    assert shown["tpm_started"][0] == "snponly.efi"
    assert shown["tpm_started"][1].startswith("unified-")


def glances(machine: Machine) -> str:
    """Return what a BIOS PC's screen shows until Xen begins, row by row.

    BIOS and iPXE on it say nothing on the serial console.
    """
    rows: dict[str, None] = {}
    until = time.monotonic() + BOOT_SECONDS
    while XEN not in machine.console.text and time.monotonic() < until:
        rows |= dict.fromkeys(machine.screen_text().splitlines())
        time.sleep(GLANCE)
    return "\n".join(rows)


@pytest.mark.parametrize("wrong", list(REFUSED))
def test_firmware_refuses_what_the_owner_did_not_sign(
    world: World, wrong: str
) -> None:
    link, said, otherwise = REFUSED[wrong]
    before = world.client_row(DESK)
    begun = int(time.time())
    with tampered(world, wrong):
        with booting(world, SECURE) as machine:
            seen = machine.wait_for(said, REFUSED_SECONDS)
            found = result(world, SECURE, seen.seconds, link)
            assert "(XEN)" not in machine.console.text
            script = "this PC is" in machine.console.text
        # offered, and nothing was started: the last report is of before
        status = json.loads(world.command("status", "--json", shown=False))
        seen_by = {row["client"]: row["seen"] for row in status["offered"]}
        assert seen_by[DESK.name] >= begun
        assert world.client_row(DESK) == before
        # it was the signature: the same bytes start without Secure Boot
        with booting(world, INSECURE) as machine:
            machine.wait_for(otherwise, REFUSED_SECONDS)
    # an unsigned loader never runs; a loader with the image refused has run
    assert script == (link == "image")
    record({**found, "wrong": wrong})


@pytest.mark.parametrize("row", [READY[0], SECURE], ids=named)
def test_ipxe_with_drivers_of_its_own_boots_too(world: World, row: Row) -> None:
    """A client's loader is switched, as some hardware needs it."""
    data = site_data()
    clients = data["clients"]
    assert isinstance(clients, dict)
    clients[DESK.name]["loader"] = {"bios": "ipxe", "uefi": "ipxe"}
    files.write(world.site_file, yaml.safe_dump(data).encode("ascii"))
    world.command("site", "push")
    try:
        with booting(world, row) as machine:
            machine.wait_for(STARTED, BOOT_SECONDS)
            sent = traffic.counted(world.lan)["tftp"]
    finally:
        world.write_site()
        world.command("site", "push")
    name = "ipxe.efi" if row.firmware == "uefi" else "ipxe.pxe"
    # each block has 32 bytes of headers, and all of it came by TFTP
    assert sent > (world.agent_root / "tftp" / name).stat().st_size


def test_an_older_image_that_was_signed_once_goes_no_further(
    world: World,
) -> None:
    """Its signature is good for ever; the floor of the signed site is not."""
    with newer_release(world) as floor:
        script = world.agent_root / f"current/ipxe/{DESK.name}.ipxe"
        genuine = script.read_text("ascii")
        older = genuine.replace(image_digest(world, NEWER), image_digest(world))
        assert older != genuine
        files.write(script, older.encode("ascii"))
        with booting(world, SECURE) as machine:
            machine.wait_for(STARTED, BOOT_SECONDS)
            seen = machine.wait_for(FAILED, BOOT_SECONDS)
            serial = State(world.state).release(FIRST).serial
            said = f"has serial {serial}, the site accepts {floor} and above"
            machine.wait_for(f"release {FIRST} {said}", BOOT_SECONDS)
            found = result(world, SECURE, seen.seconds, "floor")
            assert IN_RAM not in machine.console.text
        state = world.client_row(DESK)
    assert (state["stage"], state["release"]) == ("failed", FIRST)
    # Xen and the initramfs came, and nothing after them
    assert isinstance(found["http_bytes"], int)
    assert found["http_bytes"] < 60_000_000
    record({**found, "wrong": "older image"})


@pytest.mark.parametrize("words", LIES)
def test_options_that_nobody_signed_go_no_further(
    world: World, words: str
) -> None:
    """xen.efi takes them, Secure Boot or not; the initramfs does not."""
    begun = time.time()
    with lying_script(world, words), booting(world, SECURE) as machine:
        # without options of its own Xen says nothing on the console
        state = world.client_row(DESK)
        while state.get("stage") != "failed" or int(str(state["seen"])) < begun:
            assert time.time() - begun < BOOT_SECONDS, state
            time.sleep(1)
            state = world.client_row(DESK)
        found = result(world, SECURE, time.time() - begun, "options")
        assert IN_RAM not in machine.console.text
    assert "Xen was started with other options" in str(state["message"])
    assert isinstance(found["http_bytes"], int)
    assert found["http_bytes"] < 60_000_000
    record({**found, "wrong": f"options: {words}"})


@contextmanager
def lying_script(world: World, words: str) -> Iterator[None]:
    """Let the script, which nobody signs, add words to the image's."""
    script = world.agent_root / f"current/ipxe/{DESK.name}.ipxe"
    genuine = script.read_text("ascii")
    start = f"chunks/{image_digest(world)}"
    assert genuine.count(start) == 1
    text = genuine.replace(start, f"{start} {words}")
    files.write(script, text.encode("ascii"))
    try:
        yield
    finally:
        files.write(script, genuine.encode("ascii"))


@contextmanager
def newer_release(world: World) -> Iterator[int]:
    """Publish another release, and let the site accept no older one.

    Yields the floor. How many releases other tests have built is theirs.
    """
    world.build(NEWER, world.golden())
    world.command("release", "push", NEWER, shown=False)
    world.command("channel", "set", "stable", NEWER)
    serial = State(world.state).release(NEWER).serial
    try:
        data = {**site_data(), "floors": {"stable": serial}}
        files.write(world.site_file, yaml.safe_dump(data).encode("ascii"))
        world.command("site", "push")
        yield serial
    finally:
        world.write_site()
        world.command("site", "push")
        world.command("channel", "rollback", "stable")


@contextmanager
def tampered(world: World, wrong: str) -> Iterator[None]:
    """Let the server hand out something else, as who has taken it over can."""
    loader = world.agent_root / "tftp/snponly.efi"
    image = world.agent_root / "chunks" / image_digest(world)
    target = loader if wrong == "unsigned loader" else image
    genuine = target.read_bytes()
    try:
        if target == loader:
            plain = firststage.find((Path("/"),))["snponly.efi"]
            files.write(target, plain.read_bytes())
        elif wrong == "changed image":
            files.write(target, changed(target))
        elif wrong == "unsigned image":
            securekeys.remove_signature(target)
        else:
            sign_by_another(world, target)
        assert target.read_bytes() != genuine
        yield
    finally:
        files.write(target, genuine)


def changed(image: Path) -> bytes:
    """Return an image with one byte of its initramfs changed."""
    found = unified.read(image).find(".ramdisk")
    assert found is not None
    content = bytearray(image.read_bytes())
    content[found.raw_offset + found.size // 2] ^= 1
    return bytes(content)


def sign_by_another(world: World, image: Path) -> None:
    """Put another owner's signature in place of ours."""
    other = State(world.folder / "other")
    if securekeys.present(other) is None:
        securekeys.create(other, int(time.time()))
    keys = securekeys.present(other)
    assert keys is not None
    bare = world.folder / "bare.efi"
    files.copy(image, bare)
    securekeys.remove_signature(bare)
    securekeys.sign_image(bare, image, keys)


def signed_site(world: World) -> site.Site:
    text = signature.opened(
        (world.agent_root / "site").read_bytes(),
        world.agent_root / "key.pem",
        "site",
    )
    return site.decode(text).site


def image_digest(world: World, name: str = FIRST) -> str:
    release = State(world.state).release(name)
    settings = plan.settings(signed_site(world), DESK.profile)
    found = plan.unified(settings, release)
    assert found is not None and found.role is manifest.Role.UNIFIED
    return found.digests[0]
