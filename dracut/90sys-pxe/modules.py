"""Collects what the client program imports, for the netboot initramfs.

Called by module-setup.sh in the golden image: ``modules.py INSIDE INITDIR``.
Writes each Python module as bytecode to its place below INITDIR and prints the
paths of the extension modules, whose libraries dracut has to add.

Bytecode without sources, because the interpreter would compare the time of a
source with the one noted in the bytecode, and ``dracut --reproducible`` sets
all times anew.
"""

import importlib
import os
import sys

# http.client tries to import ssl; there is no TLS here, digests are checked
LEFT_OUT = ("ssl", "_ssl")
# imported late: by the interpreter at its start, or inside functions
ALSO = (
    *("encodings.ascii", "encodings.idna", "encodings.latin_1"),
    *("encodings.utf_8", "encodings.utf_8_sig", "stringprep"),
)


def imported(inside: str) -> dict[str, str]:
    """Return name -> file of every module that the client program needs."""
    for name in LEFT_OUT:
        sys.modules[name] = None  # type: ignore[assignment]
    sys.path.insert(0, inside)
    for name in ("sys_pxe.client.main", *ALSO):
        importlib.import_module(name)
    # an import of None fails as if it were not installed; not a module
    found = {n: m for n, m in sys.modules.items() if m is not None}
    files = {n: getattr(m, "__file__", None) for n, m in found.items()}
    return {n: f for n, f in files.items() if f and n != "__main__"}


def main() -> int:
    """Write the bytecode, print the extension modules."""
    inside, initdir = sys.argv[1:3]
    needed = imported(inside)
    # late, so that it does not count as needed
    py_compile = importlib.import_module("py_compile")

    for path in sorted(needed.values()):
        if path.endswith(".so"):
            print(path)
            continue
        target = initdir + os.path.splitext(path)[0] + ".pyc"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        py_compile.compile(
            path,
            cfile=target,
            dfile=path,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
