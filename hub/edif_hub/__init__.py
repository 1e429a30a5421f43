"""The hub: JupyterHub's configuration, who may log in, the keys of kernels, what a user server starts with.

Imported by ``jupyterhub_config.py`` alone; everything here runs in the hub's process.
"""
