"""Objects in the shape of the Kubernetes API, as far as reading clients (kubectl, k9s, client libraries) need it."""
