"""Runs as Jobs of a Kubernetes cluster: the documents, what the cluster's answers mean, and how it is reached.

What the store makes of it all is in ``effects.jobs``, the outbox effects that carry it out in ``effects.job_runs``.
"""
