"""The client program: runs in the initramfs of a machine without a disk.

Standard library and the shared modules only, as every module here is carried
into the netboot initramfs.
"""
