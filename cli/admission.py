"""The admission port of `remit run`."""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING, Any

from cli.failures import Failure

if TYPE_CHECKING:
    from cli.project import Project
    from controllers.runtime.blocking import Blocking
    from controllers.wiring import Engine
    from schemas.admission import AdmissionRequest


def add_admission(engine: Engine, project: Project, blocking: Blocking) -> None:
    """Have the engine serve the port of the configuration. Raises Stalled when it cannot be taken, Failure when its
    certificate cannot be used."""
    from api.admission import create_admission_app
    from api.server import HttpServer
    from controllers.admission.judge import Judge
    from controllers.admission.port import Port

    config = project.config.admission
    assert config is not None
    judge = Judge(engine.store, now=engine.clock.now, engine_user=config.engine_user or "")
    port = Port(
        config, project=project.root, keys=project.state / "keys", clock=engine.clock, blocking=blocking
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
