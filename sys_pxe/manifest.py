"""The manifest: what a release is made of, in one small signed text.

::

    sys-pxe manifest 1
    release 2026-11-a
    serial 3
    created 2026-11-23T18:00:00Z
    expires 2026-12-23T18:00:00Z
    set office 400 2000 2
    qube vault
    qube work
    options office SHA256
    artifact xen xen 2918400 SHA256 2918400
    chunk SHA256
    ...
    end

The fields of ``set``, one for each named set of qubes, are its name, the MiB
that the qubes take which start with the system, those of all its qubes, and the
number of ``qube`` lines below it. Set X is the artifacts ``volumes-X`` and
``qubes-X``. The fields of ``options``, one for each unified image, are its name
and the digest of the configuration in it (``plan.xen_cfg``); image X is the
artifact ``unified-X``. The fields of ``artifact`` are role, name, size, digest
and chunk size, sizes in bytes. The ``chunk`` lines below it give the digest of
each chunk; all chunks but the last are of the chunk size. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum

from sys_pxe import document, names
from sys_pxe.errors import InvalidInput

CHUNK_SIZE = 16 << 20
CHUNK_MAX = 512 << 20
CHUNKS_MAX = 12_000
ARTIFACTS_MAX = 64
SETS_MAX = 16
IMAGES_MAX = 16
QUBES_MAX = 200
QUBES_MIB_MAX = 1 << 24


class Role(StrEnum):
    """What an artifact is for."""

    XEN = "xen"
    KERNEL = "kernel"
    INITRAMFS = "initramfs"
    UNIFIED = "unified"
    LOADER = "loader"
    DOM0_ROOT = "dom0-root"
    VOLUMES = "volumes"
    QUBES = "qubes"


BOOT_ROLES = (Role.XEN, Role.KERNEL, Role.INITRAMFS)
# fetched whole by a loader or the firmware, which know no chunks
WHOLE_ROLES = (*BOOT_ROLES, Role.UNIFIED, Role.LOADER)


SET_ROLES = (Role.VOLUMES, Role.QUBES)


@dataclass(frozen=True)
class QubeSet:
    """A named set of qubes: those that were asked for, sorted.

    ``boot_mib`` is what the qubes take that start with the system, ``all_mib``
    what all take that can run, those that are needed by others too.
    """

    name: str
    boot_mib: int
    all_mib: int
    qubes: tuple[str, ...]

    def artifact(self, role: Role) -> str:
        """Return the name of its artifact of a role."""
        return f"{role}-{self.name}"


@dataclass(frozen=True)
class Image:
    """A unified image: its name, and the SHA-256 of its configuration."""

    name: str
    options: str

    @property
    def artifact(self) -> str:
        """The name of its artifact."""
        return f"{Role.UNIFIED}-{self.name}"


@dataclass(frozen=True)
class Chunk:
    """A slice of an artifact: where it lies (bytes) and its SHA-256."""

    offset: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Artifact:
    """One file of a release. ``size`` and ``chunk_size`` are in bytes."""

    role: Role
    name: str
    size: int
    sha256: str
    chunk_size: int
    digests: tuple[str, ...]

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks in the order of their offsets."""
        step = self.chunk_size
        return tuple(
            Chunk(i * step, min(step, self.size - i * step), digest)
            for i, digest in enumerate(self.digests)
        )


@dataclass(frozen=True)
class Manifest:
    """A release's manifest. Times are seconds since 1970 (UTC)."""

    release: str
    serial: int
    created: int
    expires: int
    artifacts: tuple[Artifact, ...]
    sets: tuple[QubeSet, ...] = ()
    images: tuple[Image, ...] = ()

    def of_set(self, chosen: QubeSet, role: Role) -> Artifact:
        """Return a set's artifact of a role, or raise InvalidInput."""
        return self._named(role, chosen.artifact(role))

    def of_image(self, chosen: Image) -> Artifact:
        """Return a unified image's artifact, or raise InvalidInput."""
        return self._named(Role.UNIFIED, chosen.artifact)

    def _named(self, role: Role, name: str) -> Artifact:
        for artifact in self.artifacts:
            if (artifact.role, artifact.name) == (role, name):
                return artifact
        raise InvalidInput(f"release {self.release}: no artifact {name}")

    def find(self, role: Role) -> Artifact:
        """Return the one artifact of a role, or raise InvalidInput."""
        found = [a for a in self.artifacts if a.role is role]
        if len(found) != 1:
            raise InvalidInput(
                f"release {self.release}: {len(found)} artifacts of role "
                f"{role} (expected one)"
            )
        return found[0]

    def chunks(self) -> dict[str, int]:
        """Return digest -> size (bytes) of every distinct chunk."""
        return {c.sha256: c.size for a in self.artifacts for c in a.chunks}


def parse(untrusted: bytes) -> Manifest:
    """Return the manifest that these bytes are, or raise InvalidInput."""
    reader = document.Reader(untrusted, "manifest")
    release = names.parse_name(reader.word("release"), reader.where)
    serial = names.parse_int(
        reader.word("serial"), reader.where, 1, names.SERIAL_MAX
    )
    created = names.parse_time(reader.word("created"), reader.where)
    expires = names.parse_time(reader.word("expires"), reader.where)
    if expires <= created:
        raise InvalidInput(f"{reader.where}: expires before it was created")
    sets: list[QubeSet] = []
    while reader.peek("set"):
        sets.append(_parse_qube_set(reader))
    images: list[Image] = []
    while reader.peek("options"):
        images.append(_parse_image(reader))
    artifacts: list[Artifact] = []
    while reader.peek("artifact"):
        artifacts.append(_parse_artifact(reader))
    reader.end()
    _check_artifacts(artifacts)
    _check_sets(sets, artifacts)
    _check_images(images, artifacts)
    return Manifest(
        release=release,
        serial=serial,
        created=created,
        expires=expires,
        artifacts=tuple(artifacts),
        sets=tuple(sets),
        images=tuple(images),
    )


def _parse_qube_set(reader: document.Reader) -> QubeSet:
    name, boot, whole, number = reader.words("set", 4)
    where = reader.where
    count = names.parse_int(number, where, 1, QUBES_MAX)
    found = QubeSet(
        name=names.parse_name(name, where),
        boot_mib=names.parse_int(boot, where, 0, QUBES_MIB_MAX),
        all_mib=names.parse_int(whole, where, 0, QUBES_MIB_MAX),
        qubes=tuple(
            names.parse_qube(reader.word("qube"), reader.where)
            for _ in range(count)
        ),
    )
    if list(found.qubes) != sorted(set(found.qubes)):
        raise InvalidInput(f"{where}: the qubes of {name} are not in order")
    if found.boot_mib > found.all_mib:
        raise InvalidInput(f"{where}: {boot} MiB are more than {whole} MiB")
    return found


def _parse_image(reader: document.Reader) -> Image:
    name, options = reader.words("options", 2)
    where = reader.where
    return Image(
        names.parse_name(name, where), names.parse_sha256(options, where)
    )


def _parse_artifact(reader: document.Reader) -> Artifact:
    role, name, size, digest, step = reader.words("artifact", 5)
    where = reader.where
    if role not in set(Role):
        known = ", ".join(Role)
        raise InvalidInput(
            f"{where}: {names.printable(role, 20)!r} is not a role "
            f"(expected one of {known})"
        )
    nbytes = names.parse_int(size, where, 1, names.SIZE_MAX)
    chunk_size = names.parse_int(step, where, 1, CHUNK_MAX)
    count = -(-nbytes // chunk_size)
    if chunk_size > nbytes or count > CHUNKS_MAX:
        raise InvalidInput(
            f"{where}: chunks of {chunk_size} bytes do not suit {nbytes} bytes"
        )
    return Artifact(
        role=Role(role),
        name=names.parse_name(name, where),
        size=nbytes,
        sha256=names.parse_sha256(digest, where),
        chunk_size=chunk_size,
        digests=tuple(
            names.parse_sha256(reader.word("chunk"), reader.where)
            for _ in range(count)
        ),
    )


def _check_sets(sets: list[QubeSet], artifacts: list[Artifact]) -> None:
    known = [s.name for s in sets]
    if len(sets) > SETS_MAX or known != sorted(set(known)):
        raise InvalidInput(
            f"manifest: expected at most {SETS_MAX} sets, in order, each once"
        )
    if len({s.qubes for s in sets}) != len(sets):
        raise InvalidInput("manifest: two sets have the same qubes")
    wanted = {(r, s.artifact(r)) for s in sets for r in SET_ROLES}
    found = {(a.role, a.name) for a in artifacts if a.role in SET_ROLES}
    if wanted != found:
        role, name = sorted(wanted ^ found)[0]
        raise InvalidInput(
            f"manifest: the artifact {name} of role {role} is missing, or "
            "belongs to no set"
        )


def _check_images(images: list[Image], artifacts: list[Artifact]) -> None:
    known = [i.name for i in images]
    if len(images) > IMAGES_MAX or known != sorted(set(known)):
        raise InvalidInput(
            f"manifest: expected at most {IMAGES_MAX} lines of options, in "
            "order, each once"
        )
    if len({i.options for i in images}) != len(images):
        raise InvalidInput("manifest: two images have the same options")
    found = {a.name for a in artifacts if a.role is Role.UNIFIED}
    if wrong := sorted({i.artifact for i in images} ^ found):
        raise InvalidInput(
            f"manifest: the artifact {wrong[0]} of role {Role.UNIFIED} is "
            "missing, or has no line of options"
        )


def _check_artifacts(artifacts: list[Artifact]) -> None:
    if not 1 <= len(artifacts) <= ARTIFACTS_MAX:
        raise InvalidInput(
            f"manifest: {len(artifacts)} artifacts "
            f"(expected 1 to {ARTIFACTS_MAX})"
        )
    keys = [(a.role, a.name) for a in artifacts]
    if len({a.name for a in artifacts}) != len(artifacts):
        raise InvalidInput("manifest: two artifacts have the same name")
    if keys != sorted(keys, key=lambda k: (list(Role).index(k[0]), k[1])):
        raise InvalidInput("manifest: artifacts are not in their fixed order")
    sizes: dict[str, int] = {}
    for chunk in (c for a in artifacts for c in a.chunks):
        if sizes.setdefault(chunk.sha256, chunk.size) != chunk.size:
            raise InvalidInput(
                f"manifest: chunk {chunk.sha256[:12]} has two sizes"
            )


def write(manifest: Manifest) -> bytes:
    """Return the one text of a manifest; ``parse`` gives it back."""
    lines = [
        f"release {manifest.release}",
        f"serial {manifest.serial}",
        f"created {names.format_time(manifest.created)}",
        f"expires {names.format_time(manifest.expires)}",
    ]
    for s in manifest.sets:
        lines.append(f"set {s.name} {s.boot_mib} {s.all_mib} {len(s.qubes)}")
        lines += [f"qube {name}" for name in s.qubes]
    lines += [f"options {i.name} {i.options}" for i in manifest.images]
    for a in manifest.artifacts:
        lines.append(
            f"artifact {a.role} {a.name} {a.size} {a.sha256} {a.chunk_size}"
        )
        lines += [f"chunk {digest}" for digest in a.digests]
    return document.write("manifest", lines)
