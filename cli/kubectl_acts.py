"""What `kubectl remit` does in the cluster of the kubeconfig beside answers: hold, release, estop, confirm. Each makes,
changes or deletes a resource by kubectl, so that the API server knows who acts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, help
from cli.answers_kubectl import ask, kubectl
from cli.failures import Exit, Failure
from cli.output import safe
from cli.verbs import estop as words_of_estop
from cli.verbs import hold as words_of_hold
from schemas.base import API_VERSION, DEFAULT_NAMESPACE, is_name, is_namespace

if TYPE_CHECKING:
    from schemas.hold import HoldSpec, Released

app = typer.Typer(cls=help.VerbGroup, rich_markup_mode=None, add_completion=False,
                  context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
_REASON, _PART = "remit.dev/release-reason", "remit.dev/release-part"
_READY = "--for=jsonpath={.status.observedGeneration}=1"
_TOO_FEW = "more person(s) have to ask for the same"

Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the audit log.")]


@app.callback()
def _group() -> None:
    """Act in the cluster of the kubeconfig, as its user."""


@app.command("hold", cls=help.VerbCommand)
def hold(
    targets: words_of_hold.Targets = None,
    reason: words_of_hold.Reason = "",
    mode: words_of_hold.Mode = "Hold",
    duration: words_of_hold.Duration = None,
    selector: words_of_hold.Selector = None,
    everything: words_of_hold.Everything = False,
    everywhere: words_of_hold.Everywhere = False,
    quarantine: words_of_hold.Quarantine = False,
    name: words_of_hold.Name = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Stop work without touching what is declared: a Hold in the cluster, placed by its user.

    Examples:
      remit hold agent/links -r "looks wrong" --for 2h
      remit hold --all --mode Stop -r incident
    """
    spec = words_of_hold.spec_of(
        targets or [], reason, mode=mode, duration=duration, selector=selector, everything=everything,
        everywhere=everywhere, quarantine=quarantine, namespace=namespace,
    )  # fmt: skip
    if name is not None and not is_name(name):
        raise Failure(f"{name[:60]!r} is no name")
    place = DEFAULT_NAMESPACE if everywhere else namespace
    for target in targets or []:
        key = common.key_named(target, namespace)
        ask("get", f"{_plural(key.kind)}/{key.name}", "-n", key.namespace, "-o", "json")
    placed = _place(spec, place, name)
    kubectl("wait", _READY, "--timeout=10s", f"hold.remit.dev/{placed}", "-n", place, check=False)
    matched = (ask("get", f"hold.remit.dev/{placed}", "-n", place, "-o", "json").get("status") or {}).get("matched")
    count = "takes effect when the engine starts" if matched is None else f"holds {matched} object(s)"
    print(safe(f"hold/{placed} {count}; release: kubectl remit release {placed} -n {place}"))


@app.command("release", cls=help.VerbCommand)
def release(
    names: Annotated[list[str], typer.Argument(help="Names of Holds.")],
    reason: Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """End Holds of the cluster; an e-stop needs a reason, and as many people as its Policies say.

    Examples:
      remit release hold-x7k2p
    """
    for name in names:
        key = common.key_named(name, namespace, default_kind="hold")
        found = ask("get", f"hold.remit.dev/{key.name}", "-n", key.namespace, "-o", "json")
        _end(found, reason, None)


@app.command("estop", cls=help.VerbCommand)
def estop(
    words: words_of_estop.Words = None,
    reason: words_of_estop.Reason = "",
    tenant: words_of_estop.Tenant = "",
    percent: words_of_estop.Percent = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Stop everything now: a Hold in the cluster. It is kept also while the engine cannot be asked.

    Examples:
      remit estop --reason "it writes to customers"
      remit estop release agent/links --reason "try one first"
      remit estop release --reason "fixed in 3f2a1c"
    """
    from schemas.hold import HoldMode, HoldScope, HoldSpec

    if words and words[0] not in ("release", "clear"):
        raise Failure(f"remit estop knows one word, release; not {words[0][:40]!r}", hint="remit estop --help")
    if tenant and not is_namespace(tenant):
        raise Failure(f"--tenant {tenant[:60]!r} is no name of a tenant")
    place, scope = tenant or DEFAULT_NAMESPACE, HoldScope.TENANT if tenant else HoldScope.GLOBAL
    listed = ask("get", "holds.remit.dev", "-n", place, "-o", "json")["items"]
    standing = [h for h in listed if (h["spec"].get("scope"), h["spec"].get("mode")) == (scope, HoldMode.STOP)]
    if words:
        if not standing:
            raise Failure(f"no e-stop{f' of tenant {tenant}' if tenant else ''} stands", hint="kubectl get holds -A")
        part = words_of_estop.part_of(words[1:], percent, namespace)
        for each in standing:
            _end(each, reason, part)
        return
    if percent is not None:
        raise Failure("--percent goes with the release: remit estop release --percent 25 --reason WHY")
    whole = [h for h in standing if not h["spec"].get("released") and not h["spec"].get("until")]
    what = f"tenant {tenant}" if tenant else "everything"
    if whole:
        print(safe(f"hold/{whole[0]['metadata']['name']} stands already: {what} is stopped"))
        return
    why = reason.strip() or "no reason was given"
    placed = _place(HoldSpec(scope=scope, mode=HoldMode.STOP, reason=why), place, None if listed else "estop")
    print(safe(f"STOPPED {what}: hold/{placed} -n {place}. Nothing is started or allowed from now on"))


@app.command("confirm", cls=help.VerbCommand)
def confirm(
    digest: Annotated[str, typer.Argument(help="planDigest of the plan that waits; its start is enough.")],
    reason: Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until the engine acted on it.")] = False,
) -> None:
    """Release exactly the plan that a guard holds back: deletions, or a loosened limit.

    Examples:
      remit confirm 3f1c2a9b04de --reason "the old fleet goes"
    """
    sources = ask("get", "sources.remit.dev", "-A", "-o", "json")["items"]
    units = [unit for each in sources for unit in (each.get("status") or {}).get("units", ())]
    plans = {str(plan["digest"]): plan for unit in units for plan in unit.get("pending", ())}
    short = digest.removeprefix("sha256:")
    found = [plan for name, plan in plans.items() if len(short) >= 8 and name[7:].startswith(short)]
    if len(found) != 1:
        waiting = [f"{name[:19]}  {plan['guard']}: {plan['message']}" for name, plan in plans.items()]
        text = f"the plan that waits has another digest than {digest[:26]}" if plans else "no plan waits"
        raise Failure(text, *waiting, hint="kubectl get sources -A", code=Exit.REFUSED)
    (plan,) = found
    spec = {"planDigest": plan["digest"], **({"reason": reason} if reason else {})}
    made = _create("Confirmation", {"generateName": "confirm-", "namespace": namespace}, spec)
    print(safe(f"confirmed {plan['digest'][:19]}: {plan['message']}"))
    if no_wait:
        return
    used = "--for=condition=Succeeded"
    done = kubectl("wait", used, "--timeout=10s", f"confirmation.remit.dev/{made}", "-n", namespace, check=False)
    print("applied" if "condition met" in done else "recorded; the engine applies it when it runs")


def _place(spec: HoldSpec, namespace: str, name: str | None) -> str:
    named = {"name": name} if name else {"generateName": "estop-" if spec.is_estop else "hold-"}
    return _create("Hold", {**named, "namespace": namespace}, spec.to_wire())


def _create(kind: str, metadata: dict[str, Any], spec: dict[str, Any]) -> str:
    """Make an object; its name."""
    document = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
    return str(ask("create", "-f", "-", "-o", "json", stdin=json.dumps(document))["metadata"]["name"])


def _end(found: dict[str, Any], reason: str, part: Released | None) -> None:
    """End a Hold, or a part of an e-stop. Raises Failure where more people have to ask for the same."""
    from controllers.holds.estop import merge
    from schemas.hold import HoldSpec

    name, namespace = str(found["metadata"]["name"]), str(found["metadata"]["namespace"])
    if (found["metadata"].get("labels") or {}).get("remit.dev/made-by"):
        raise Failure(f"hold/{name} was placed by command, and is released there", hint=f"remit release {name}")
    spec, what = HoldSpec.model_validate(found["spec"]), (f"hold.remit.dev/{name}", "-n", namespace)
    if spec.is_estop:
        if not reason.strip():
            raise Failure("the release of an e-stop needs --reason: it stands in the audit log", code=Exit.REFUSED)
        about = f"{_PART}-" if part is None else f"{_PART}={json.dumps(part.to_wire())}"
        kubectl("annotate", "--overwrite", *what, f"{_REASON}={reason}", about)
    try:
        if part is None:
            kubectl("delete", *what, "--wait=false")
        else:
            change = {"spec": {"released": merge(spec.released, part).to_wire()}}
            kubectl("patch", *what, "--type=merge", "-p", json.dumps(change))
    except Failure as failure:
        if _TOO_FEW not in failure.message:
            raise
        text = failure.message.partition("denied the request: ")[2].partition(" first, each")[0]
        raise Failure(
            f"hold/{name}: your reason is recorded, but {text}", hint="as another user: the same command",
            code=Exit.REFUSED,
        ) from failure  # fmt: skip
    print(f"hold/{name} released" if part is None else f"hold/{name}: released in part; the rest stays stopped")


def _plural(kind: str) -> str:
    from schemas import registry

    return f"{registry.find_name(kind).plural}.remit.dev"
