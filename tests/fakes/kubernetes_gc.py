"""The garbage collector of Kubernetes, as far as a test needs it: where no kube-controller-manager runs, nobody takes
away what is owned by what is gone. This does, once for each call, and knows no foreground deletion."""

from __future__ import annotations

from controllers.sources.kubernetes import ROOT
from controllers.web.kubernetes import Api, ClusterFault
from schemas import crd, registry


def collect(api: Api, namespace: str) -> list[str]:
    """Delete what says that it is owned, in a namespace, by objects none of which is there; their names."""
    found = {}
    places = [("Job", f"/apis/batch/v1/namespaces/{namespace}/jobs"), ("Pod", f"/api/v1/namespaces/{namespace}/pods")]
    for kind in crd.SERVED:
        name = registry.find_name(kind)
        if not name.namespaced:
            continue
        places.append((kind, f"{ROOT}/namespaces/{namespace}/{name.plural}"))
    for kind, place in places:
        for item in api.ask("GET", place).get("items") or ():
            found[item["metadata"]["uid"]] = (kind, f"{place}/{item['metadata']['name']}", item)
    gone = []
    for kind, path, item in found.values():
        owners = item["metadata"].get("ownerReferences") or ()
        if owners and not any(owner["uid"] in found for owner in owners):
            try:
                # Without a policy a Job would keep what it owns, and wait for a controller to let go of it.
                options = {"propagationPolicy": "Background", "preconditions": {"uid": item["metadata"]["uid"]}}
                api.ask("DELETE", path, body={"kind": "DeleteOptions", "apiVersion": "v1", **options})
            except ClusterFault as fault:
                if fault.status not in (404, 409):
                    raise
            gone.append(f"{kind}/{item['metadata']['name']}")
    return sorted(gone)
