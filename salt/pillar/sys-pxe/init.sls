# Settings of the formula sys-pxe. All have a default; this file is yours.
sys-pxe:
  # The network card, as 'qvm-pci list' or lspci names it, in quotes. Without
  # it: the only wired card that no qube has.
  # nic: '00:1f.6'

  # The card's address: network.address of /etc/sys-pxe/site.yaml.
  address: 192.0.2.1/24

  # What tpl-sys-pxe is cloned from; fedora-43-minimal was never tried.
  base_template: debian-13-minimal

  # Room for releases, at least twice the largest. It can grow, never shrink.
  private_size: 20GiB

  # MiB. What is left over keeps the files that clients fetch in memory.
  memory: 1024

  # More packages for the template, for example a card's firmware.
  packages: []

  # true: sys-pxe.remove does not ask whether a client is booting.
  force: false
