"""Makes the netboot initramfs; runs as a child in its own mount namespace.

``initramfs.build`` starts it under unshare(1); all mounts end with it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.dom0 import clientroot, initramfs, seal
from sys_pxe.errors import SysPxeError

OUTPUT = "var/tmp/netboot-initramfs"
# Our module and what it depends on, nothing else: no network module, none that
# looks for, unlocks or resumes from a disk, no driver of a disk.
DRACUT_ARGUMENTS = (
    *("--force", "--no-hostonly", "--no-hostonly-cmdline", "--reproducible"),
    *("--no-early-microcode", "--zstd"),
    # the folder that is packed stays: it is looked through for secrets
    "--keep",
    *(
        "--conf",
        "/dev/null",
        "--confdir",
        f"/{clientroot.INSIDE}/dracut.conf.d",
    ),
    *("--modules", "sys-pxe"),
)
# written by our dracut module as its last step; dracut itself goes on, and ends
# with status 0, when a module could not be installed
COMPLETE = f"{clientroot.INSIDE}/complete"
TEMPORARY = "var/tmp"
# what mktemp makes of dracut.XXXXXX in $TMPDIR, and initdir in it (dracut.sh)
PACKED = "dracut.*/initramfs"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the build; return the exit status."""
    parser = argparse.ArgumentParser(prog="sys_pxe.dom0.initramfs_build")
    for name in ("tree", "work", "key", "module"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--kernel", required=True)
    given = parser.parse_args(argv)
    try:
        merged = mount(given.tree, given.work)
        # dracut copies from /etc; an initramfs is as public as the root
        seal.apply(merged)
        install(merged, given.module, given.key)
        done = run.run(
            [
                *("chroot", str(merged), "dracut", *DRACUT_ARGUMENTS),
                *("--kver", given.kernel, f"/{OUTPUT}"),
            ],
            env={"SOURCE_DATE_EPOCH": "0", "TMPDIR": f"/{TEMPORARY}"},
        )
        if not (merged / COMPLETE).exists():
            said = done.stderr[-2000:].decode("utf-8", "replace").strip()
            raise SysPxeError(
                f"dracut left the client program out of the initramfs: {said}"
            )
        check(merged / TEMPORARY)
        files.copy(merged / OUTPUT, given.work / initramfs.RESULT)
    except SysPxeError as error:
        sys.stderr.write(error.explain() + "\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def mount(tree: Path, work: Path) -> Path:
    """Mount an overlay over the tree in ``work`` and return its root."""
    lower, merged = work / initramfs.LOWER, work / initramfs.MERGED
    # a bind mount, so that no character of the path reaches mount's options
    run.run(["mount", "--bind", str(tree), str(lower)])
    options = (
        f"lowerdir={initramfs.LOWER},upperdir={initramfs.UPPER},"
        f"workdir={initramfs.WORK}"
    )
    run.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, str(merged)],
        cwd=str(work),
        hint="the kernel needs overlayfs, and the folder of --state must lie "
        "on a local file system that is not an overlay itself",
    )
    run.run(["mount", "-t", "proc", "proc", str(merged / "proc")])
    for name in ("dev", "sys"):
        run.run(["mount", "--bind", f"/{name}", str(merged / name)])
    for name in ("run", "tmp"):
        run.run(["mount", "-t", "tmpfs", "tmpfs", str(merged / name)])
    return merged


def check(temporary: Path) -> None:
    """Look through what dracut packed, then remove it.

    Raises SysPxeError that names each secret; paths are those in the initramfs,
    for files that dracut copies also those in the golden image.
    """
    packed = list(temporary.glob(PACKED))
    if not packed:
        raise SysPxeError(
            "dracut left nothing to look through for secrets "
            f"(expected /{TEMPORARY}/{PACKED} in the golden image)",
            "report it with the version of dracut",
        )
    for root in packed:
        seal.check(root)
        files.remove(root.parent)


def install(root: Path, module: Path, key: Path) -> None:
    """Put the dracut module, the client program and the key into the image.

    ``root`` must not hold links that lead out of it on these paths; it is the
    administrator's own golden image.
    """
    target = root / "usr/lib/dracut/modules.d" / initramfs.MODULE_NAME
    files.remove(target)
    files.make_folder(target)
    for path in sorted(module.iterdir()):
        files.copy(path, target / path.name, path.stat().st_mode & 0o755)
    inside = root / clientroot.INSIDE
    files.make_folder(inside / "dracut.conf.d")
    files.copy(key, inside / "key.pem")
    clientroot.copy_program(inside)


if __name__ == "__main__":
    sys.exit(main())
