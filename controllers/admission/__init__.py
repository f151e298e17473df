"""What an API server of Kubernetes asks before it keeps an object of ours: is it valid, and may this user do that?

Here belong the ruling over one question (`judge`), the certificate that the API server trusts (`certificate`), and how
it learns of it (`registration`). What an admitted act does to the store is in ``controllers.sources.kubernetes_acts``;
the port is in ``api.admission``.
"""
