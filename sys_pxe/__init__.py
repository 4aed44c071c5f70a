"""sys-pxe: Qubes OS for rooms of PCs that have no disk."""
