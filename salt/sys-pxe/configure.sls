# In the qube sys-pxe: its address, the public key, the running services.
{%- from "sys-pxe/map.jinja" import map, settings, public_key, no_key with context %}
{%- set root = map.root %}

{%- if not public_key %}

sys-pxe-configure-key-missing:
  test.fail_without_changes:
    - name: {{ no_key }}
    - comment: {{ no_key }}
    - failhard: true
{%- endif %}

# If this fails: apply sys-pxe.install to {{ map.template }}, shut both down.
sys-pxe-configure-installed:
  file.exists:
    - name: {{ root }}{{ map.network_script }}
    - failhard: true

# not below {{ map.data }}: what root reads is not the agent's to write
sys-pxe-configure-network:
  file.managed:
    - name: {{ root }}{{ map.config }}
    - makedirs: true
    - mode: '0644'
    - contents: |
        # Made by the Salt formula sys-pxe, from /srv/pillar/sys-pxe in dom0.
        INTERFACE={{ map.interface }}
        ADDRESS={{ settings.address }}
        ADDRESS6={{ map.local_address6 }}
        UDP_PORTS={{ map.udp_ports }}
        TCP_PORTS={{ map.tcp_ports }}

sys-pxe-configure-key:
  file.managed:
    - name: {{ root }}{{ map.data }}/key.pem
    # the agent owns the folder: root does not follow a link that it made there
    - follow_symlinks: false
    - mode: '0644'
    - contents_pillar: sys-pxe:public_key

sys-pxe-configure-network-running:
  service.running:
    - name: sys-pxe-network
    - watch:
      - file: sys-pxe-configure-network

# systemd restarts it together with sys-pxe-network
sys-pxe-configure-agent-running:
  service.running:
    - name: sys-pxe-agent
    - require:
      - service: sys-pxe-configure-network-running
    - watch:
      - file: sys-pxe-configure-key
