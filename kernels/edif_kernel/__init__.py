"""The eDIF kernel: an IPython kernel whose traces go to the backend.

Started by JupyterLab through the kernelspec in ``jupyter/kernels/edif``; runs in the kernel's process.
"""
