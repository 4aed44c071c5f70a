# In the template of an admin qube that you choose: the command sys-pxe, to look,
# and to hand on what dom0 has signed. There is no key in it, and no agent. What
# it may call, the tags of the qube decide (see README.md). Apply it by name:
#
#   qubesctl --skip-dom0 --targets=TEMPLATE state.apply sys-pxe.install-admin
{%- from "sys-pxe/map.jinja" import map, settings with context %}
{%- set root = map.root %}

sys-pxe-install-admin-packages:
  pkg.installed:
    - pkgs: {{ map.admin_packages[grains['os_family']] | yaml }}
    - install_recommends: false
    - failhard: true

# the modules that the agent and the command share
sys-pxe-install-admin-shared:
  file.recurse:
    - name: {{ root }}{{ map.agent }}
    - source: salt://sys-pxe/files/agent/sys_pxe
    - exclude_pat: agent/*
    - dir_mode: '0755'
    - file_mode: '0644'

sys-pxe-install-admin-dom0:
  file.recurse:
    - name: {{ root }}{{ map.agent }}/dom0
    - source: salt://sys-pxe/files/admin/dom0
    - dir_mode: '0755'
    - file_mode: '0644'

sys-pxe-install-admin-command:
  file.managed:
    - name: {{ root }}{{ map.command_path }}
    - source: salt://sys-pxe/files/admin/sys-pxe
    - makedirs: true
    - mode: '0755'
