"""The part of the methods that runs beside the weights.

It is sent along with each job (``nnsight.register("edif.engine")``), so that a server needs nothing of ours and client
and server never disagree; on a model that is loaded here the same code runs here.  So it imports nothing but torch,
numpy and transformers, and has no dataclasses, whose methods travel as byte code of one version of Python.
"""
