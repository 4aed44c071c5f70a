# In the template tpl-sys-pxe: packages, user, agent, services, units.
#
# Files and links only, no systemctl: a template does not run what it holds.
{%- from "sys-pxe/map.jinja" import map, settings with context %}
{%- set root = map.root %}

# before the packages, for Debian starts what it installs; the agent starts
# both itself
{%- for name in ('dnsmasq', 'nginx') %}

sys-pxe-install-no-{{ name }}:
  file.symlink:
    - name: {{ root }}{{ map.units }}/{{ name }}.service
    - target: /dev/null
    - makedirs: true
    - require_in:
      - pkg: sys-pxe-install-packages
{%- endfor %}

sys-pxe-install-packages:
  pkg.installed:
    - pkgs: {{ (map.packages[grains['os_family']] + settings.packages) | yaml }}
    - install_recommends: false
    - failhard: true

# its home is root's: qrexec starts services by a login shell, and a profile in a
# folder that the agent can write would run outside of the agent's sandbox
sys-pxe-install-user:
  user.present:
    - name: {{ map.user }}
    - system: true
    - usergroup: true
    - home: {{ map.home }}
    - createhome: false
    - shell: /usr/sbin/nologin
    - fullname: sys-pxe agent

# empty here; bind-dirs puts the qube's own over it
sys-pxe-install-data:
  file.directory:
    - name: {{ root }}{{ map.data }}
    - user: {{ map.user }}
    - group: {{ map.group }}
    - mode: '0750'
    - require:
      - user: sys-pxe-install-user

sys-pxe-install-agent:
  file.recurse:
    - name: {{ root }}{{ map.agent }}
    - source: salt://sys-pxe/files/agent/sys_pxe
    - clean: true
    - dir_mode: '0755'
    - file_mode: '0644'

sys-pxe-install-network-script:
  file.managed:
    - name: {{ root }}{{ map.network_script }}
    - source: salt://sys-pxe/files/network
    - makedirs: true
    - mode: '0755'

{%- for what, source, mode in (
    (map.services, 'qubes-rpc', '0755'),
    (map.services_config, 'qubes-rpc/config', '0644'),
) %}

sys-pxe-install-{{ source | replace('/', '-') }}:
  file.recurse:
    - name: {{ root }}{{ what }}
    - source: salt://sys-pxe/files/{{ source }}
    # not the folder config below it
    - include_pat: E@^syspxe[.][A-Za-z]+$
    - dir_mode: '0755'
    - file_mode: '{{ mode }}'
{%- endfor %}

{%- for folder, name in (
    (map.units, 'sys-pxe-network.service'),
    (map.units, 'sys-pxe-agent.service'),
    (map.links, '10-sys-pxe.link'),
    (map.binds, '50-sys-pxe.conf'),
) %}

sys-pxe-install-{{ name }}:
  file.managed:
    - name: {{ root }}{{ folder }}/{{ name }}
    - source: salt://sys-pxe/files/{{ name }}
    - makedirs: true
    - mode: '0644'
{%- endfor %}

# what systemctl enable would make; the units start in the qube that has the
# service, and nowhere else
{%- for name in ('sys-pxe-network.service', 'sys-pxe-agent.service') %}

sys-pxe-install-enable-{{ name }}:
  file.symlink:
    - name: {{ root }}{{ map.units }}/multi-user.target.wants/{{ name }}
    - target: {{ map.units }}/{{ name }}
    - makedirs: true
    - require:
      - file: sys-pxe-install-{{ name }}
{%- endfor %}
