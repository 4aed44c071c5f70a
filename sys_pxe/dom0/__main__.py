"""``python3 -m sys_pxe.dom0``: the ``sys-pxe`` command."""

import sys

from sys_pxe.dom0 import cli

sys.exit(cli.main())
