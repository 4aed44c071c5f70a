"""Sample documents and hypothesis strategies for the shared modules' tests."""

import hashlib
from collections.abc import Iterator

from hypothesis import strategies as st

from sys_pxe import names
from sys_pxe.manifest import Artifact, Manifest, Role
from sys_pxe.pointer import Pointer

CREATED = names.parse_time("2026-11-23T18:00:00Z", "test")
EXPIRES = CREATED + 30 * 86_400

name = st.from_regex(r"[a-z0-9]([.-]?[a-z0-9]){0,15}", fullmatch=True)
serial = st.integers(1, names.SERIAL_MAX)
digest = st.binary(min_size=4, max_size=4).map(
    lambda b: hashlib.sha256(b).hexdigest()
)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def artifact(role: Role, name: str, size: int, step: int) -> Artifact:
    count = -(-size // step)
    digests = tuple(sha(f"{name} {i}") for i in range(count))
    return Artifact(role, name, size, sha(name), step, digests)


def release(
    name: str = "r1", number: int = 3, root_size: int = 2500
) -> Manifest:
    return Manifest(
        release=name,
        serial=number,
        created=CREATED,
        expires=EXPIRES,
        artifacts=(
            artifact(Role.XEN, "xen", 700, 700),
            artifact(Role.KERNEL, "vmlinuz", 800, 800),
            artifact(Role.INITRAMFS, "initramfs", 900, 900),
            artifact(Role.DOM0_ROOT, "dom0.squashfs", root_size, 1000),
        ),
    )


def pointer(
    release: str = "r1", release_serial: int = 3, rollback: bool = False
) -> Pointer:
    return Pointer("stable", 7, CREATED, release, release_serial, rollback)


@st.composite
def artifacts(draw: st.DrawFn) -> Artifact:
    step = draw(st.integers(1, 1 << 24))
    count = draw(st.integers(1, 4))
    size = step * (count - 1) + draw(st.integers(1, step))
    return Artifact(
        role=draw(st.sampled_from(Role)),
        name=draw(name),
        size=size,
        sha256=draw(digest),
        chunk_size=min(step, size),
        digests=tuple(
            draw(st.lists(digest, min_size=count, max_size=count, unique=True))
        ),
    )


def _sizes_agree(found: list[Artifact]) -> bool:
    sizes: dict[str, int] = {}
    return all(
        sizes.setdefault(c.sha256, c.size) == c.size
        for a in found
        for c in a.chunks
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    order = list(Role)
    found = draw(
        st.lists(
            artifacts(), min_size=1, max_size=5, unique_by=lambda a: a.name
        ).filter(_sizes_agree)
    )
    created = draw(st.integers(0, 4_000_000_000))
    return Manifest(
        release=draw(name),
        serial=draw(serial),
        created=created,
        expires=created + draw(st.integers(1, 100_000_000)),
        artifacts=tuple(
            sorted(found, key=lambda a: (order.index(a.role), a.name))
        ),
    )


pointers = st.builds(
    Pointer,
    channel=name,
    serial=serial,
    created=st.integers(0, 4_000_000_000),
    release=name,
    release_serial=serial,
    rollback=st.booleans(),
)


def mutations(text: bytes) -> Iterator[bytes]:
    """Yield the text with each byte changed, left out, and doubled."""
    for i, byte in enumerate(text):
        for other in {byte ^ 1, byte ^ 0x20, byte ^ 0x80, 10, 32, 48, 0}:
            if other != byte:
                yield text[:i] + bytes([other]) + text[i + 1 :]
        yield text[:i] + text[i + 1 :]
        yield text[: i + 1] + text[i:]


def reordered(text: bytes) -> Iterator[bytes]:
    """Yield the text with neighbouring, unlike lines exchanged."""
    lines = text.splitlines(keepends=True)
    for i in range(len(lines) - 1):
        if lines[i] != lines[i + 1]:
            swapped = [*lines[:i], lines[i + 1], lines[i], *lines[i + 2 :]]
            yield b"".join(swapped)
