"""The dom0 side: build, sign and push releases; the ``sys-pxe`` command."""
