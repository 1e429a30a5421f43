"""``python -m edif_kernel -f FILE``: the process behind a notebook (the kernelspec's command)."""

from __future__ import annotations

from ipykernel.kernelapp import IPKernelApp


def main() -> None:
    """Run an IPython kernel with :mod:`edif_kernel.startup` loaded before the first cell."""
    IPKernelApp.launch_instance(extra_extensions=["edif_kernel.startup"])


if __name__ == "__main__":
    main()
