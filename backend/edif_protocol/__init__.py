"""What hub, kernel and backend must agree on: wire types and where an installation keeps its things.

Imported by every process, so nothing heavy may be imported here: no torch, no nnsight, no ray, no fastapi.
"""
