"""The admission port of `remit run`."""

from __future__ import annotations

import functools
import os
import ssl
from typing import TYPE_CHECKING, Any

from cli.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.project import Project
    from controllers.runtime.blocking import Blocking
    from controllers.wiring import Engine
    from schemas.admission import AdmissionRequest


def add_admission(engine: Engine, project: Project, blocking: Blocking) -> Callable[[], None]:
    """Have the engine serve the port of the configuration; what is returned is to be called after its end. Raises
    Stalled when the port cannot be taken or there is no cluster, Failure when its certificate cannot be used."""
    from api.admission import create_admission_app
    from api.server import HttpServer
    from controllers.admission.judge import Judge
    from controllers.admission.port import Port
    from controllers.web.kubernetes import connect

    config = project.config.admission
    assert config is not None
    api = connect(os.environ) if config.registration is not None else None
    judge = Judge(engine.store, now=engine.clock.now, engine_user=config.engine_user or "")
    namespace = os.environ.get("POD_NAMESPACE") or (api.namespace if api is not None else "")
    port = Port(
        config, project=project.root, keys=project.state / "keys", clock=engine.clock, blocking=blocking, api=api,
        namespace=namespace,
    )  # fmt: skip
    try:
        port.open()
    except ImportError as error:
        raise Failure(f"admission: {error}", hint="pip install 'remit[kubernetes]'") from error
    except (OSError, ssl.SSLError, ValueError) as error:
        raise Failure(
            f"admission: the certificate cannot be used: {error}", hint="admission.certificateFile, admission.keyFile"
        ) from error

    async def rule(request: AdmissionRequest) -> dict[str, Any]:
        return await blocking.run(judge.answer, request)

    host, _, number = config.listen.rpartition(":")
    app = create_admission_app(rule, port.knows)
    server = HttpServer(app, host.strip("[]"), int(number), setting="admission.listen", tls=port.context)
    server.bind()
    engine.add("admission-server", server.run)
    engine.add("admission-registration", functools.partial(port.run, url=lambda: server.url))
    return api.close if api is not None else lambda: None
