"""What runs as the user: the start of their server (``__main__``), and what JupyterLab in it asks (``extension``).

Started by whichever spawner there is, in the user's own account, container or batch job; never in the hub's process.
"""
