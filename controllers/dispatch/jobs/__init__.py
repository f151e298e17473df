"""Runs as Jobs of a Kubernetes cluster: the documents, what the cluster's answers mean, and how it is reached.

What the store makes of it all, and the outbox effects that carry it out, is in ``effects.jobs`` and ``effects.job_runs``.
"""
