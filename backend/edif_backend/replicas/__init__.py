"""Replicas: loaded copies of models, as Ray actors.  Ray is imported in this package and nowhere else."""
