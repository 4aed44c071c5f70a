# In dom0: the qube sys-pxe and its template go, with the copies of the releases
# in it. Key, releases and site.yaml stay in dom0, until the user deletes them.
{%- from "sys-pxe/map.jinja" import map, settings with context %}

{%- if not settings.force %}

# "removal while a client boots" ends here, with the clients' names; pillar
# sys-pxe:force goes on all the same
sys-pxe-remove-idle:
  cmd.run:
    - name: {{ map.command }} status --idle || { echo "to remove it all the same, set sys-pxe:force in the pillar" >&2; exit 1; }
    - onlyif: {{ map.qvm_check }} --quiet --running {{ map.qube }}
    - failhard: true
{%- endif %}

# the NIC's assignment goes with the qube
sys-pxe-remove-qube:
  qvm.absent:
    - name: {{ map.qube }}
    - failhard: true

sys-pxe-remove-template:
  qvm.absent:
    - name: {{ map.template }}
