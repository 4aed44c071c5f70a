"""The netboot initramfs: dracut run inside the golden image, on an overlay.

The tree itself stays as it is: a child in a mount namespace of its own puts an
overlay over it, so nothing stays mounted, however the child ends.
"""

import sys
from pathlib import Path

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError

PACKAGE = Path(__file__).resolve().parents[1]
MODULE_NAME = "90sys-pxe"
# beside the package in the source tree, else where the package manager puts it
MODULE_PLACES = (
    PACKAGE.parent / "dracut" / MODULE_NAME,
    Path("/usr/lib/dracut/modules.d") / MODULE_NAME,
)
RESULT = "netboot-initramfs"
# room for a list of files that must not be in it
_SAID_SHOWN = 8000
LOWER, UPPER, WORK, MERGED = "lower", "upper", "work", "merged"


def dracut_module() -> Path:
    """Return the folder of the project's dracut module."""
    for place in MODULE_PLACES:
        if (place / "module-setup.sh").is_file():
            return place
    raise SysPxeError(
        f"the dracut module {MODULE_NAME} is missing "
        f"(looked in {', '.join(map(str, MODULE_PLACES))})",
        "install the package of sys-pxe again",
    )


def build(
    tree: Path, version: str, public_key: Path, module: Path, work: Path
) -> Path:
    """Return the initramfs (in ``work``) for a tree and kernel version.

    Needs root. Raises SysPxeError with dracut's last words when it fails, and
    for a secret that got into it, with the name of the file.
    """
    for name in (LOWER, UPPER, WORK, MERGED):
        files.make_folder(work / name)
    argv = [
        # a process namespace too: when unshare ends, all in it ends
        *("unshare", "--mount", "--propagation", "private"),
        *("--pid", "--fork", "--kill-child", "--"),
        *(sys.executable, "-m", "sys_pxe.dom0.initramfs_build"),
        *("--tree", str(tree.absolute()), "--work", str(work.absolute())),
        *("--kernel", version, "--key", str(public_key.absolute())),
        *("--module", str(module.absolute())),
    ]
    env = {"PYTHONPATH": str(PACKAGE.parent)}
    done = run.run(argv, env=env, check=False)
    result = work / RESULT
    if done.status != 0 or not result.is_file():
        text = done.stderr[-_SAID_SHOWN:].decode("utf-8", "replace").strip()
        said, _, hint = text.partition("\nhint: ")
        raise SysPxeError(
            f"the netboot initramfs could not be made: "
            f"{said or f'exit status {done.status}'}",
            hint
            or "the golden image needs dracut, python3 and openssl, and the "
            "modules of its newest kernel",
        )
    return result
