"""The gateway: the one door of the fabric (FastAPI).  It checks, stores and tells; it never runs anything of a user's.

No torch and no nnsight are imported here, so the gateway starts in a second and stays small.
"""
