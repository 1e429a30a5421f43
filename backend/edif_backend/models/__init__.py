"""Models: the catalogue, snapshots on disk, and loading them.

The gateway imports ``catalogue`` and ``snapshots`` (no torch); ``loading`` and the modules that make snapshots import
torch and run in the zygote, or in ``python -m edif_backend.models``.
"""
