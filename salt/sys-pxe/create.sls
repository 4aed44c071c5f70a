# In dom0: the template tpl-sys-pxe, the qube sys-pxe, its disk and its NIC.
#
# Traps of Qubes 4.3 that are met here:
# - qvm.prefs and qvm.devices change settings under test=True, and every qvm
#   state fails there for a qube that does not exist yet: so under test=True
#   none of them is rendered.
# - "service: disable: meminfo-writer" is never done: qubesd removes that feature
#   again. maxmem: 0 says the same and stays.
# - qvm.devices cannot detach (TypeError), and records a port without the device
#   that is in it: so the NIC is the matter of sys_pxe/dom0/nic.py.
# - qvm.prefs takes '' for "no qube" only as default_dispvm: with a dash it would
#   set it again each time.
# - there is no state for the size of a volume, and qvm-volume refuses to shrink.
{%- from "sys-pxe/map.jinja" import map, settings, public_key, no_key, private_bytes with context %}

{%- macro nic(verb) -%}
{{ map.python }} -P -m sys_pxe.dom0.nic {{ verb }} {{ map.qube }} {{ settings.nic | string | quote if settings.nic else '' }}
{%- endmacro %}
{%- macro nic_environment() %}
    - env:
      - PYTHONPATH: {{ map.library }}
      - PYTHONDONTWRITEBYTECODE: '1'
{%- endmacro %}

{%- load_yaml as qube %}
- name: {{ map.qube }}
- present:
  - template: {{ map.template }}
  - label: {{ map.label }}
- prefs:
  # also of a qube that was there before
  - template: {{ map.template }}
  # a physical card needs an HVM
  - virt-mode: hvm
  - netvm: ''
  - default_dispvm: ''
  - memory: {{ settings.memory }}
  - maxmem: 0
  - autostart: true
  # all that it holds came from dom0, which can push it again
  - include-in-backups: false
- service:
  - enable:
    - {{ map.service }}
- features:
  - enable:
    - servicevm
  - set:
    - menu-items: {{ map.menu }}
{%- endload %}

{%- if not public_key %}

sys-pxe-create-key:
  test.fail_without_changes:
    - name: {{ no_key }}
    - comment: {{ no_key }}
    - failhard: true
{%- endif %}

{%- if opts.get('test') %}

sys-pxe-create-test:
  test.show_notification:
    - text: |
        Nothing was compared: the states of Qubes OS change settings even under
        test=True. Without test=True this is what would be made sure of:
        template {{ map.template }}, cloned from {{ settings.base_template }}
        private volume of at least {{ settings.private_size }}
        NIC {{ settings.nic or '(the only wired one that no qube has)' }}
        {{ qube | yaml(False) | indent(8) }}
{%- else %}

# first, so that nothing is made on a machine that has no NIC for it
sys-pxe-create-nic-found:
  cmd.run:
    - name: {{ nic('choose') }}
    - unless: {{ nic('check') }}
    {{- nic_environment() }}
    - failhard: true

# to install it by hand: qvm-template install {{ settings.base_template }}
sys-pxe-create-base-template:
  qvm.template_installed:
    - name: {{ settings.base_template }}
    - failhard: true

sys-pxe-create-template:
  qvm.clone:
    - name: {{ map.template }}
    - source: {{ settings.base_template }}
    - require:
      - qvm: sys-pxe-create-base-template

sys-pxe-create-qube:
  qvm.vm:
    {{ qube | yaml(False) | indent(4) }}
    - require:
      - qvm: sys-pxe-create-template

# a volume that is larger already stays as it is
sys-pxe-create-private-volume:
  cmd.run:
    - name: {{ map.qvm_volume }} resize {{ map.qube }}:private {{ private_bytes }}
    - unless: test "$({{ map.qvm_volume }} info {{ map.qube }}:private size)" -ge {{ private_bytes }}
    - require:
      - qvm: sys-pxe-create-qube

sys-pxe-create-nic:
  cmd.run:
    - name: {{ nic('assign') }}
    - unless: {{ nic('check') }}
    {{- nic_environment() }}
    - require:
      - qvm: sys-pxe-create-qube
{%- endif %}
