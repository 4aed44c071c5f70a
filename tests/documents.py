"""Sample documents and hypothesis strategies for the shared modules' tests."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import strategies as st

from sys_pxe import names
from sys_pxe.manifest import (
    SET_ROLES,
    Artifact,
    Image,
    Manifest,
    QubeSet,
    Role,
)
from sys_pxe.pointer import Pointer

CREATED = names.parse_time("2026-11-23T18:00:00Z", "test")
MIB = 1 << 20
EXPIRES = CREATED + 30 * 86_400

BARE_ROLES = tuple(r for r in Role if r not in (*SET_ROLES, Role.UNIFIED))
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


def with_image(value: Manifest, options: str, image: str = "base") -> Manifest:
    """Return a release with one more unified image, of these options."""
    made = Image(image, options)
    order = list(Role)
    found = (*value.artifacts, artifact(Role.UNIFIED, made.artifact, 600, 600))
    return replace(
        value,
        artifacts=tuple(
            sorted(found, key=lambda a: (order.index(a.role), a.name))
        ),
        images=(*value.images, made),
    )


def with_set(
    value: Manifest, qubes: tuple[str, ...], seed_size: int = 3000
) -> Manifest:
    """Return a release with one more set, named office."""
    made = QubeSet("office", 400, 2000, tuple(sorted(qubes)))
    more = (
        artifact(
            Role.VOLUMES, "volumes-office", seed_size, min(seed_size, MIB)
        ),
        artifact(Role.QUBES, "qubes-office", 50, 50),
    )
    return replace(
        value,
        artifacts=(*value.artifacts, *more),
        sets=(*value.sets, made),
    )


def pointer(
    release: str = "r1",
    release_serial: int = 3,
    rollback: bool = False,
    floor: int = 1,
) -> Pointer:
    return Pointer(
        "stable", 7, CREATED, release, release_serial, rollback, floor
    )


qube = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_.-]{0,30}", fullmatch=True)


@st.composite
def qube_sets(draw: st.DrawFn) -> list[QubeSet]:
    members = st.lists(qube, min_size=1, max_size=4, unique=True).map(sorted)
    chosen = draw(st.lists(members.map(tuple), max_size=2, unique=True))
    known = draw(
        st.lists(name, min_size=len(chosen), max_size=len(chosen), unique=True)
    )
    made = []
    for one, qubes in zip(sorted(known), chosen, strict=True):
        boot = draw(st.integers(0, 1000))
        made.append(
            QubeSet(one, boot, boot + draw(st.integers(0, 1000)), qubes)
        )
    return made


@st.composite
def unified_images(draw: st.DrawFn) -> list[Image]:
    known = draw(st.lists(name, max_size=2, unique=True))
    size = len(known)
    marks = draw(st.lists(digest, min_size=size, max_size=size, unique=True))
    return [Image(*pair) for pair in zip(sorted(known), marks, strict=True)]


@st.composite
def artifacts(
    draw: st.DrawFn, role: Role | None = None, named: str | None = None
) -> Artifact:
    step = draw(st.integers(1, 1 << 24))
    count = draw(st.integers(1, 4))
    size = step * (count - 1) + draw(st.integers(1, step))
    return Artifact(
        role=role or draw(st.sampled_from(BARE_ROLES)),
        name=named or draw(name),
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
    sets = draw(qube_sets())
    images = draw(unified_images())
    of_sets = [
        draw(artifacts(role, one.artifact(role)))
        for role in SET_ROLES
        for one in sets
    ]
    of_sets += [draw(artifacts(Role.UNIFIED, one.artifact)) for one in images]
    found = draw(
        st.lists(
            artifacts(), min_size=1, max_size=5, unique_by=lambda a: a.name
        )
        .map(lambda few: [*few, *of_sets])
        .filter(lambda all_: len({a.name for a in all_}) == len(all_))
        .filter(_sizes_agree)
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
        sets=tuple(sets),
        images=tuple(images),
    )


pointers = st.builds(
    Pointer,
    channel=name,
    serial=serial,
    created=st.integers(0, 4_000_000_000),
    release=name,
    release_serial=serial,
    rollback=st.booleans(),
    floor=serial,
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
