# The public key that 'sys-pxe key create' has made in dom0. Nothing to edit.
{%- set file = '/var/lib/sys-pxe/key/public.pem' %}
{%- if salt['file.file_exists'](file) %}
sys-pxe:
  public_key: {{ salt['file.read'](file) | yaml_dquote }}
{%- else %}
{}
{%- endif %}
