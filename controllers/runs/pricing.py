"""Prices of what a run used: from the Providers that are declared, at the moment it is reported."""

from __future__ import annotations

from decisions.prices import Listed, Priced, Tokens, priced
from schemas.agent import AgentSpec
from schemas.provider import ProviderSpec
from schemas.resource import Resource
from schemas.run import RunSpec
from store.contract import Transaction


def price(tx: Transaction, run: Resource, spec: RunSpec, model: str, tokens: Tokens) -> tuple[Priced, bool] | None:
    """What ``tokens`` of ``model`` cost now, and whether the model had to be guessed: a run that names none used one of
    those its agent declares, and counts as the dearest of them. None when there is no price.

    The prices are those of the Provider that the agent names, else of every Provider in the namespace."""
    pinned = tx.spec_at(spec.agent_uid, spec.agent_generation)
    chosen = None if pinned is None else AgentSpec.model_validate(pinned.spec).model
    models = [model] if model else [] if chosen is None else [chosen.primary, *chosen.fallback]
    if chosen is not None and chosen.provider_ref is not None:
        provider = tx.get(chosen.provider_ref.key("Provider", run.namespace))
        providers = [] if provider is None else [provider]
    else:
        providers = tx.objects("Provider", namespace=run.namespace)
    listed = [
        Listed(provider.key, provider.generation, entry)
        for provider in providers
        for entry in ProviderSpec.model_validate(provider.spec).prices
    ]
    found = priced(listed, models, tokens, tx.now)
    return None if found is None else (found, not model)
