"""A diskless PC in QEMU: it boots from the network, talks on a serial line."""

import json
import shlex
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from sys_pxe import files, run
from sys_pxe.errors import SysPxeError
from sys_pxe.lab.console import Console, Seen
from sys_pxe.lab.network import Lan
from sys_pxe.lab.qmp import Control

LOGIN_SECONDS = 600.0
COMMAND_SECONDS = 60.0
SETTLE_SECONDS = 240
_CONTROL_SECONDS = 30.0
# what QEMU can say before anybody listens: seen to stand still for good after
# 60 to 90 KB towards a slow reader, with the kernel's default of 208 KiB
_SERIAL_BUFFER = 32 << 20
# asm-generic/socket.h; the socket module does not have it
_SO_SNDBUFFORCE = 32
_SAID_MAX = 2000
# where VGA has the text of its screen, 80 by 25
_TEXT_SCREEN = 0xB8000


@dataclass(frozen=True)
class Hardware:
    """What a PC is made of. ``memory`` is in MiB, ``rtc`` as QEMU's -rtc base.

    ``disks`` are raw images that it should leave alone; ``disk_device`` is
    their QEMU device (ide-hd, virtio-blk-pci, nvme). ``firmware`` are the
    options that put another firmware in SeaBIOS' place (see lab.uefi),
    ``nic_options`` more of QEMU's for the network card, such as ``romfile=``:
    without the iPXE that QEMU's cards bring. ``stick`` is the image of a USB
    stick, write-protected, that the PC starts first; ``tpm`` the control
    socket of its TPM (see lab.tpm).
    """

    mac: str
    memory: int = 2048
    cpus: int = 2
    board: str = "pc"
    cpu: str = "Nehalem"
    nic: str = "e1000"
    nic_options: tuple[str, ...] = ()
    more_nics: tuple[str, ...] = ()
    disks: tuple[Path, ...] = ()
    disk_device: str = "ide-hd"
    firmware: tuple[str, ...] = ()
    stick: Path | None = None
    tpm: Path | None = None
    rtc: str = "utc"
    no_reboot: bool = True


@dataclass(frozen=True)
class Ends:
    """File descriptors that QEMU inherits: control socket, serial line."""

    control: int
    serial: int


def qemu_argv(
    name: str, hardware: Hardware, tap: str, serial_log: Path, fds: Ends
) -> list[str]:
    """Return QEMU's command for a machine."""
    argv = [
        "qemu-system-x86_64",
        *("-name", name, "-nodefaults", "-no-user-config"),
        *("-M", hardware.board, "-accel", "tcg,thread=multi"),
        *("-cpu", hardware.cpu, "-smp", str(hardware.cpus)),
        *("-m", str(hardware.memory), "-rtc", f"base={hardware.rtc}"),
        *("-vga", "std", "-display", "none", "-boot", "n"),
        *hardware.firmware,
        *("-chardev", f"socket,id=control,fd={fds.control}"),
        *("-mon", "chardev=control,mode=control"),
        *("-chardev", f"socket,id=serial,fd={fds.serial},"
          f"logfile={serial_log},logappend=on"),
        *("-serial", "chardev:serial"),
        *("-netdev", f"tap,id=lan,ifname={tap},script=no,downscript=no"),
        *("-device", ",".join((hardware.nic, "netdev=lan",
          f"mac={hardware.mac}", *hardware.nic_options))),
    ]  # fmt: skip
    for nic in hardware.more_nics:
        argv += ["-device", f"{nic},romfile="]
    for number, disk in enumerate(hardware.disks):
        argv += ["-drive", f"if=none,id=disk{number},format=raw,file={disk}"]
        argv += ["-device", disk_argument(hardware.disk_device, number)]
    if hardware.stick is not None:
        argv += ["-drive", "if=none,id=stick,format=raw,readonly=on,"
                 f"file={hardware.stick}", "-device", "qemu-xhci", "-device",
                 "usb-storage,drive=stick,bootindex=0"]  # fmt: skip
    if hardware.tpm is not None:
        argv += ["-chardev", f"socket,id=tpm,path={hardware.tpm}", "-tpmdev",
                 "emulator,id=tpm0,chardev=tpm", "-device",
                 "tpm-crb,tpmdev=tpm0"]  # fmt: skip
    return argv + (["-no-reboot"] if hardware.no_reboot else [])


def disk_argument(device: str, number: int) -> str:
    """Return QEMU's -device value for a disk; NVMe wants a serial number."""
    serial = f",serial=disk{number}" if device == "nvme" else ""
    return f"{device},drive=disk{number}{serial}"


def widen(end: socket.socket, size: int) -> None:
    """Let ``size`` bytes wait in a socket for its reader; root may, others
    get what net.core.wmem_max allows."""
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
    except PermissionError:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


class Machine:
    """A PC that is on while its ``with`` block runs.

    ``folder`` gets its serial log, ``<name>-serial.log``. The machine dies with
    the thread that switched it on, so that nothing is left after a crash.
    """

    def __init__(
        self, lan: Lan, name: str, tap: str, hardware: Hardware, folder: Path
    ) -> None:
        self.lan = lan
        self.name = name
        self.tap = tap
        self.hardware = hardware
        self.serial_log = folder / f"{name}-serial.log"
        self._undo = ExitStack()
        self._console: Console | None = None
        self._control: Control | None = None

    def __enter__(self) -> Self:
        self.power_on()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.power_off()

    @property
    def console(self) -> Console:
        """The serial console; SysPxeError before the first power-on."""
        if self._console is None:
            raise SysPxeError(f"{self.name}: the machine was never on")
        return self._console

    @property
    def pid(self) -> int:
        """QEMU's process id; SysPxeError when the machine is off."""
        self._qemu()
        return self._process.pid

    def power_on(self) -> None:
        """Switch it on; SysPxeError when it is on or QEMU does not start."""
        if self._control is not None:
            raise SysPxeError(f"{self.name}: the machine is on already")
        files.make_folder(self.serial_log.parent)
        try:
            self._start()
        except BaseException:
            self.power_off()
            raise

    def power_off(self) -> None:
        """Pull the plug; what the console said stays readable."""
        self._control = None
        self._undo.close()

    def reset(self) -> None:
        """Power-cycle it: the console starts anew, the log file goes on."""
        self.power_off()
        self.power_on()

    def wait_for(self, pattern: str, timeout: float) -> Seen:
        """See :meth:`Console.wait_for`."""
        return self.console.wait_for(pattern, timeout)

    def send(self, text: str) -> None:
        """Type text on the console."""
        self.console.send(text)

    def login(self, timeout: float = LOGIN_SECONDS, after: int = 0) -> float:
        """See :meth:`Console.login`."""
        return self.console.login(timeout, after)

    def command(self, line: str, timeout: float = COMMAND_SECONDS) -> str:
        """Run a shell command line after :meth:`login`; return its output."""
        return self.console.command(line, timeout)

    def probe(self, *paths: str) -> dict[str, object]:
        """Return what lab-probe measured in the machine, after login.

        The keys are described in ``sys_pxe/lab/files/lab-probe``. Drivers may
        still be on their way at the login: udev is waited for.
        """
        self.command(
            f"udevadm settle --timeout={SETTLE_SECONDS}", SETTLE_SECONDS + 30
        )
        line = self.command(shlex.join(["lab-probe", *paths]))
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise SysPxeError(f"{self.name}: lab-probe said {line[:200]!r}")
        return found

    def screenshot(self, path: Path) -> None:
        """Save what the screen shows as a PNG file."""
        self._qemu().execute(
            "screendump", filename=str(path.absolute()), format="png"
        )

    def screen_text(self) -> str:
        """Return what the screen shows while it is in VGA's text mode."""
        path = self.serial_log.with_name(f"{self.name}-screen.bin")
        columns, rows = 80, 25
        size = 2 * columns * rows
        self._qemu().execute(
            "pmemsave", val=_TEXT_SCREEN, size=size, filename=str(path)
        )
        cells = files.read_capped(path, size)
        files.remove(path)
        # each cell is a character and its colours
        text = cells[::2].decode("cp437")
        starts = range(0, len(text), columns)
        return "\n".join(text[i : i + columns].rstrip() for i in starts)

    def is_on(self) -> bool:
        """Say whether it still runs; a guest that reboots or halts ends it."""
        return self._control is not None and self._process.poll() is None

    def wait_until_off(self, timeout: float) -> None:
        """Wait until the guest has switched itself off; SysPxeError if not."""
        try:
            self._process.wait(timeout)
        except run.TimeoutExpired:
            raise SysPxeError(
                f"{self.name}: still on after {timeout:g} s; its console's "
                f"last lines:\n{self.console.last_lines()}"
            ) from None

    def _start(self) -> None:
        ours, control = self._pair()
        ours_serial, serial = self._pair()
        widen(serial, _SERIAL_BUFFER)
        argv = qemu_argv(
            self.name,
            self.hardware,
            self.tap,
            self.serial_log,
            Ends(control.fileno(), serial.fileno()),
        )
        # without a name, so it leaves nothing behind
        said = files.unnamed()
        self._undo.callback(said.close)
        self._process = run.spawn(
            self.lan.exec_argv(["setpriv", "--pdeathsig", "KILL", *argv]),
            stderr=said,
            new_session=True,
            pass_fds=(control.fileno(), serial.fileno()),
        )
        self._undo.callback(run.stop, self._process)
        # QEMU has its own copies; a hang-up must be seen when it ends
        control.close()
        serial.close()
        self._console = Console(self.name, ours_serial)
        self._undo.callback(self._console.close)
        try:
            self._control = Control(self.name, ours, _CONTROL_SECONDS)
        except SysPxeError:
            said.seek(0)
            why = said.read(_SAID_MAX).decode("utf-8", "replace").strip()
            raise SysPxeError(
                f"{self.name}: QEMU did not start: {why}"
            ) from None
        self._undo.callback(self._control.close)

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for end in pair:
            self._undo.callback(end.close)
        return pair

    def _qemu(self) -> Control:
        if self._control is None:
            raise SysPxeError(f"{self.name}: the machine is off")
        return self._control
