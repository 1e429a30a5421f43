"""Executors: where user code runs, closed in, over a model that is mapped and not copied.

``pool`` (in the replica's process) → ``zygote`` (in the jail, holds the model, runs no user code) → ``executor`` (its
fork, one job of one user).  None of these imports ray, fastapi, SQL or S3: they are also what runs on a GPU machine
that has no Ray.
"""
