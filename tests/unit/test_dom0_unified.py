"""Unified images: which are wanted, where xen.efi is, what objcopy must do.

objcopy itself runs in the integration tests; here a stand-in writes files.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sys_pxe import files, plan, run, site
from sys_pxe.dom0 import firststage, securekeys, unified
from sys_pxe.dom0.unified import Parts, Wanted
from sys_pxe.errors import InvalidInput, SysPxeError
from sys_pxe.manifest import Image
from sys_pxe.site import Site
from tests.agent_world import site_data
from tests.dom0_world import QUIET
from tests.efi_files import efi_file

XEN = {".text": b"xen" * 1000, ".data": b"d"}
OPTIONS = b"[global]\n"


def a_site(profiles: dict[str, dict[str, object]]) -> Site:
    clients = {
        f"pc-{number}": {
            "mac": f"52:54:00:00:00:{number:02}",
            "profile": profile,
        }
        for number, profile in enumerate(p for p in profiles if p != "unused")
    }
    return site.parse(site_data(profiles=profiles, clients=clients))


def test_profiles_with_the_same_options_share_an_image() -> None:
    found = a_site(
        {
            "base": {"channel": "stable"},
            "office": {"inherits": "base", "qubes": ["work"]},
            "large": {"inherits": "base", "ram": {"dom0": "8GiB"}},
            "debug": {"inherits": "base", "options": {"xen": ["loglvl=all"]}},
            "unused": {"inherits": "base", "ram": {"dom0": "9GiB"}},
        }
    )
    made = unified.wanted(found)
    assert [one.name for one in made] == ["base", "debug", "large"]
    settings = plan.settings(found, "office")
    assert made[0].configuration == plan.xen_cfg(settings)
    assert made[0].image == Image("base", plan.options_digest(settings))


def test_names_and_numbers_of_images_have_limits() -> None:
    fine, long = "p" * 40, "p" * 41
    assert unified.wanted(a_site({fine: {"channel": "stable"}}))
    with pytest.raises(InvalidInput, match="at most 40 characters"):
        unified.wanted(a_site({long: {"channel": "stable"}}))
    many: dict[str, dict[str, object]] = {
        f"p{n}": {"channel": "stable", "ram": {"dom0": f"{n + 1}GiB"}}
        for n in range(17)
    }
    with pytest.raises(InvalidInput, match="17 different choices"):
        unified.wanted(a_site(many))
    del many["p0"]
    assert len(unified.wanted(a_site(many))) == 16


@pytest.mark.parametrize("place", unified.PLACES)
def test_xen_efi_is_found_where_packages_put_it(
    tmp_path: Path, place: str
) -> None:
    assert unified.find_xen(tmp_path) is None
    folder = files.make_folder(tmp_path / place)
    for name in ("xen-4.9.efi", "xen-4.19.5.efi", "xen-4.19.efi.sig"):
        files.write(folder / name, b"x")
    files.link_to(folder / "xen-5.efi", "xen-4.9.efi")
    assert unified.find_xen(tmp_path) == folder / "xen-4.19.5.efi"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    files.write(tmp_path / "golden.efi", efi_file(XEN))
    files.write(tmp_path / "kernel", b"kernel" * 2000)
    files.write(tmp_path / "initramfs", b"initramfs" * 3000)
    return Parts(*(tmp_path / n for n in ("golden.efi", "kernel", "initramfs")))


Argv = Sequence[str]


@pytest.fixture
def objcopy(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for objcopy; return what it was called with."""
    calls: list[list[str]] = []

    def fake(argv: Argv, **_options: object) -> None:
        calls.append(list(argv))
        sections = dict(XEN)
        for word in argv:
            if word.startswith("--add-section="):
                _, name, path = word.split("=", 2)
                sections[name] = Path(path).read_bytes()
        files.write(Path(argv[-1]), efi_file(sections))

    monkeypatch.setattr(run, "run", fake)
    return calls


@pytest.mark.usefixtures("objcopy")
def test_each_part_is_where_objcopy_was_told_to_put_it(
    parts: Parts, tmp_path: Path, objcopy: list[list[str]]
) -> None:
    made = unified.build(parts, OPTIONS, tmp_path / "out.efi", tmp_path)
    assert [s.name for s in made.sections] == [
        *(".text", ".data", ".config", ".kernel", ".ramdisk"),
    ]
    addresses = [w for w in objcopy[1] if w.startswith("--change-section-vma")]
    assert addresses == [
        "--change-section-vma=.config=0x140003000",
        "--change-section-vma=.kernel=0x140004000",
        "--change-section-vma=.ramdisk=0x140007000",
    ]
    # debug data is not part of what the firmware loads and checks
    assert "--remove-section=.debug_*" in objcopy[0]


Change = Callable[[dict[str, bytes]], dict[str, bytes]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: s[k] for k in s if k != ".config"}, r"\.config is not"),
        (
            lambda s: {**s, ".kernel": s[".kernel"] + b"x"},
            r"\.kernel is not wh",
        ),
        (lambda s: {**s, ".ramdisk": s[".ramdisk"][::-1]}, "what .*initramfs"),
        (lambda s: {".pad": b"x" * 9999, **s}, r"\.config is not where"),
    ],
)
def test_an_objcopy_that_does_other_than_it_was_told_is_caught(
    parts: Parts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    message: str,
) -> None:
    def fake(argv: Argv, **_: object) -> None:
        sections = dict(XEN)
        added = [w.split("=", 2)[1:] for w in argv if "add-section" in w]
        sections |= {name: Path(path).read_bytes() for name, path in added}
        if added:
            sections = change(sections)
        files.write(Path(argv[-1]), efi_file(sections))

    monkeypatch.setattr(run, "run", fake)
    with pytest.raises(SysPxeError, match=message) as caught:
        unified.build(parts, OPTIONS, tmp_path / "out.efi", tmp_path)
    assert "objcopy --version" in caught.value.hint


def test_a_xen_that_is_none_is_refused(parts: Parts, tmp_path: Path) -> None:
    files.write(parts.xen, b"\x7fELF" + bytes(5000))
    with pytest.raises(InvalidInput, match="not an EFI file"):
        unified.build(parts, OPTIONS, tmp_path / "out.efi", tmp_path)


def test_an_image_that_was_unified_before_is_refused(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(argv: Argv, **_: object) -> None:
        files.copy(Path(argv[-2]), Path(argv[-1]))

    files.write(parts.xen, efi_file({**XEN, ".kernel": b"k"}))
    monkeypatch.setattr(run, "run", fake)
    with pytest.raises(InvalidInput, match=r"has a section \.kernel already"):
        unified.build(parts, OPTIONS, tmp_path / "out.efi", tmp_path)


@pytest.mark.usefixtures("objcopy")
def test_a_large_image_is_refused_with_what_is_large(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [Wanted("base", OPTIONS)]
    args = (parts, tmp_path, tmp_path, None, QUIET)
    (made,) = unified.build_all(wanted, *args)
    assert (tmp_path / made.artifact).is_file()
    monkeypatch.setattr(unified, "SIZE_MAX", 20_000)
    with pytest.raises(
        SysPxeError, match=r"unified-base has .* initramfs 0 MB"
    ):
        unified.build_all(wanted, *args)


def test_the_loader_is_this_pc_s_and_each_name_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden, here = tmp_path / "golden", tmp_path / "here"
    for root, folder, name in (
        (golden, "usr/share/ipxe", "ipxe-snponly-x86_64.efi"),
        (here, "usr/lib/ipxe", "snponly.efi"),
        (here, "usr/lib/ipxe", "ipxe.efi"),
    ):
        files.make_folder(root / folder)
        files.write(root / folder / name, efi_file({".text": b"x"}))
    found = firststage.find((golden, here))
    assert found == {
        "snponly.efi": golden / "usr/share/ipxe/ipxe-snponly-x86_64.efi",
        "ipxe.efi": here / "usr/lib/ipxe/ipxe.efi",
    }
    signed: list[str] = []

    def fake_sign(source: Path, target: Path, _: object) -> None:
        signed.append(target.name)

    monkeypatch.setattr(securekeys, "sign_image", fake_sign)
    keys = securekeys.Keys(tmp_path / "db.key", tmp_path / "db.pem")
    made = firststage.build_all(found, tmp_path, keys, QUIET)
    assert sorted(made) == sorted(signed) == ["ipxe.efi", "snponly.efi"]
    files.write(found["snponly.efi"], b"#!ipxe\n" + bytes(1000))
    with pytest.raises(InvalidInput, match="not an EFI file"):
        firststage.build_all(found, tmp_path, keys, QUIET)
