"""An always-on Secure Scuttlebutt pub server."""

__version__ = "0.1.0"
