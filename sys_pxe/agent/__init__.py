"""The part in the sys-pxe qube: store, services, dnsmasq and nginx.

It holds a public key only, and stores nothing whose signature by that key was
not checked first.
"""
