"""The one writer and its verifying processes. ``worker`` runs in those, so importing this package imports nothing."""
