"""What a site becomes for dnsmasq, nginx and iPXE: plans in, text out. Pure.

Shared, as the agent writes these files and ``sys-pxe client render`` in dom0
shows them.
"""
