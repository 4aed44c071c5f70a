#!/bin/bash
# Puts the client program into the netboot initramfs: the Python interpreter,
# exactly the modules that the program imports, openssl, the drivers of wired
# PC network cards, file systems of the root and the pool, and four units.
# shellcheck disable=SC2154 # moddir, initdir and the like are dracut's

# Only when asked for: a host's own initramfs has no use for it.
check() {
    return 255
}

depends() {
    echo systemd systemd-initrd systemd-journald systemd-tmpfiles \
        dracut-systemd base
}

installkernel() {
    # Wired cards of PCs, by the vendor's folder in drivers/net/ethernet.
    local vendor
    for vendor in intel realtek broadcom amd atheros marvell nvidia dlink \
        via sis 3com aquantia; do
        instmods "=drivers/net/ethernet/$vendor"
    done
    # the cards of virtual machines, and the transceivers that cards need
    instmods virtio_net virtio_pci vmxnet3 =drivers/net/phy
    # pciback under its name upstream and in Qubes' and Debian's kernels
    hostonly='' instmods xen-pciback xen-privcmd loop squashfs overlay btrfs \
        zram
}

install() {
    local inside=/usr/lib/sys-pxe python file
    python=$(command -v python3) || {
        dfatal "sys-pxe: the image has no python3"
        return 1
    }
    inst_multiple openssl mount umount modprobe systemctl
    inst_simple "$inside/key.pem"
    inst "$python" /usr/bin/python3
    inst_simple "$moddir/sys-pxe-client" "$inside/sys-pxe-client"
    # what the program imports is asked of the program, and compiled
    # once here: machines would compile it at each boot
    "$python" -I -S "$moddir/modules.py" "$inside" "$initdir" > \
        "$initdir/usr/lib/sys-pxe/shared-objects" || {
        dfatal "sys-pxe: cannot collect the client's Python modules"
        return 1
    }
    while read -r file; do
        inst "$file"
    done < "$initdir/usr/lib/sys-pxe/shared-objects"
    rm "$initdir/usr/lib/sys-pxe/shared-objects"

    inst_simple "$moddir/sys-pxe-hide.service" \
        "$systemdsystemunitdir/sys-pxe-hide.service"
    inst_simple "$moddir/sys-pxe-boot.service" \
        "$systemdsystemunitdir/sys-pxe-boot.service"
    inst_simple "$moddir/sysroot.mount" "$systemdsystemunitdir/sysroot.mount"
    inst_simple "$moddir/sysroot-var-lib-qubes.mount" \
        "$systemdsystemunitdir/sysroot-var-lib-qubes.mount"
    $SYSTEMCTL -q --root "$initdir" add-wants sysinit.target \
        sys-pxe-hide.service
    $SYSTEMCTL -q --root "$initdir" add-requires initrd-root-fs.target \
        sys-pxe-boot.service sysroot.mount sysroot-var-lib-qubes.mount
    # No udev: the client program loads the one driver that it wants, and no
    # device of this PC that nobody asked for is touched. systemd's modules
    # bring it along, so it is masked.
    local unit
    for unit in systemd-udevd.service systemd-udevd-control.socket \
        systemd-udevd-kernel.socket systemd-udev-trigger.service \
        systemd-udev-settle.service initrd-udevadm-cleanup-db.service; do
        ln -sfn /dev/null "$initdir/etc/systemd/system/$unit"
    done
    # the builder looks for this in the image
    : > "$inside/complete"
}
