"""The ``edif`` command: starts, stops and shows one installation.

:mod:`~edif_backend.cli.main` is the entry; each other module is one noun of it.  Runs in the operator's shell; only the
supervisor that :mod:`~edif_backend.cli.supervision` starts outlives it.
"""
