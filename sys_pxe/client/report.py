"""Tell the server how far this machine is: hints for people, never trusted.

A report that does not get through is dropped; a boot never waits for one.
"""

import http.client
import json

from sys_pxe import measured, names
from sys_pxe.client.fetch import Server

_TIMEOUT = 3.0
# a quote of the TPM is the longest text
_TEXT_MAX = measured.TEXT_MAX


def body(fields: dict[str, str | int | float]) -> bytes:
    """Return a report's JSON: printable ASCII, within 4 KiB."""
    cut = {
        key: names.printable(value, _TEXT_MAX)
        if isinstance(value, str)
        else value
        for key, value in fields.items()
    }
    return json.dumps(cut).encode("ascii")


def send(server: Server, fields: dict[str, str | int | float]) -> bool:
    """Post a report; return whether the server took it."""
    connection = http.client.HTTPConnection(*server, timeout=_TIMEOUT)
    try:
        connection.request(
            "POST",
            "/report",
            body(fields),
            {"Content-Type": "application/json"},
        )
        return connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
