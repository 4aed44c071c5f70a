"""A LAN in network namespaces, a golden image and diskless QEMU machines."""
