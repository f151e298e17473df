"""What the admission port shows to the API server, kept up to date meanwhile: certificate, path, registration."""

from __future__ import annotations

import hmac
import json
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from controllers.admission import certificate, registration
from controllers.admission.certificate import Pair
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from controllers.web.kubernetes import Api
from schemas.admission_config import AdmissionConfig
from schemas.errors import Retry

log = logging.getLogger(__name__)

LOOK_S = 30.0
"""How often files, the Secret and the registration are looked at."""
CLIENT_CONFIG = "admission-client-config.json"


class Port:
    """``context`` shows the current certificate. ``open`` has to be called before it is served."""

    def __init__(
        self, config: AdmissionConfig, *, project: Path, keys: Path, clock: Clock, blocking: Blocking,
        api: Api | None = None, namespace: str = "",
    ) -> None:  # fmt: skip
        """``project`` is where relative files start; ``keys`` is the folder for what is made. ``api`` is where it is
        registered, if that is wanted, and ``namespace`` that of the engine."""
        self.context: ssl.SSLContext = certificate.context()
        self._config = config
        self._project = project
        self._keys = keys
        self._clock = clock
        self._blocking = blocking
        self._api = api
        self._namespace = namespace
        self._pair: Pair | None = None
        self._former: Pair | None = None

    def open(self) -> None:
        """Have a certificate, from files or made here. Blocks. Raises OSError, ssl.SSLError, ValueError for files that
        cannot be used."""
        self._show(self._local())

    def knows(self, token: str) -> bool:
        """Whether a request came by the path that the API server was told. The former path counts as well: what the
        API server knows may be a moment old."""
        pairs = [pair for pair in (self._pair, self._former) if pair is not None]
        return any(hmac.compare_digest(token.encode(), pair.path.encode()) for pair in pairs)

    async def run(self, life: Lifecycle, url: Callable[[], str]) -> None:
        """A component: look again and again whether anything is to be renewed. ``url`` is that of the server."""
        life.ready()
        wait_s = 0.0
        while not await wait_for_any(self._clock, wait_s, life.stopping):
            try:
                await self._blocking.run(self._look, url())
                wait_s = LOOK_S
            except Retry as error:
                log.warning("admission: %s", error)
                wait_s = error.after or LOOK_S

    def _look(self, url: str) -> None:
        wanted, api = self._config.registration, self._api
        if wanted is not None and api is not None and wanted.secret and self._config.certificate_file is None:
            namespace = wanted.namespace or self._namespace
            self._show(registration.shared_pair(api, namespace, wanted, self._config.hosts, self._clock.now))
        else:
            try:
                self._show(self._local())
            except (OSError, ssl.SSLError, ValueError) as error:
                log.warning("admission: the new certificate cannot be used, the old one goes on: %s", error)
        pair = self._pair
        assert pair is not None
        (self._keys / CLIENT_CONFIG).write_text(
            json.dumps(registration.client_config(pair, f"{url}/admit/{pair.path}"), indent=1) + "\n", "ascii"
        )
        if wanted is not None and api is not None:
            registration.register(api, wanted, pair, f"/admit/{pair.path}")

    def _local(self) -> Pair:
        config = self._config
        if config.certificate_file is not None and config.key_file is not None:
            trust = None if config.ca_file is None else self._project / config.ca_file
            return certificate.read(self._project / config.certificate_file, self._project / config.key_file, trust)
        pair = certificate.kept(self._keys)
        if pair is None or not certificate.usable(pair, config.hosts, self._clock.now()):
            pair = certificate.make(config.hosts, self._clock.now())
            certificate.keep(self._keys, pair)
        return pair

    def _show(self, pair: Pair) -> None:
        if pair == self._pair:
            return
        certificate.load(self.context, pair, self._keys)
        self._former, self._pair = self._pair, pair
