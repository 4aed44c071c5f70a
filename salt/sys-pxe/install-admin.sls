# In the template of an admin qube that you choose: the command sys-pxe, to look,
# to push what dom0 has signed, and to prune. There is no key in it, and no agent.
# What it may call, the tags of the qube decide (see README.md). By name:
#
#   qubesctl --skip-dom0 --targets=TEMPLATE state.apply sys-pxe.install-admin
{%- from "sys-pxe/map.jinja" import map with context %}
{%- set root = map.root %}

sys-pxe-install-admin-packages:
  pkg.installed:
    - pkgs: {{ map.admin_packages[grains['os_family']] | yaml }}
    - install_recommends: false
    - failhard: true

sys-pxe-install-admin-modules:
  file.recurse:
    - name: {{ root }}{{ map.agent }}
    - source: salt://sys-pxe/files/admin/sys_pxe
    - clean: true
    - dir_mode: '0755'
    - file_mode: '0644'

sys-pxe-install-admin-command:
  file.managed:
    - name: {{ root }}{{ map.command_path }}
    - source: salt://sys-pxe/files/admin/sys-pxe
    - makedirs: true
    - mode: '0755'
