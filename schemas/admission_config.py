"""``admission`` of ``remit.yaml``: the port that an API server of Kubernetes asks before it keeps an object of ours."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.base import Model, Name, Namespace
from schemas.secrets_config import FilePath

ListenAddress = Annotated[
    str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$", max_length=300)
]
ServerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:-]+$", max_length=253)]
ClusterUser = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+$", max_length=500)]


class Registration(Model):
    """What the engine keeps up to date in the cluster, so that the API server finds it and trusts it."""

    configuration: Name = Field("remit", description="Name of the ValidatingWebhookConfiguration.")
    secret: Name | None = Field(
        "remit-admission", description="Secret with the certificate that the engine makes; none with certificateFile."
    )
    namespace: Namespace | None = Field(None, description="Namespace of the Secret; that of the pod when absent.")


class AdmissionConfig(Model):
    """Served nowhere when absent."""

    listen: ListenAddress = Field("127.0.0.1:8443", description="Address of the port; HTTPS.")
    certificate_file: FilePath | None = Field(
        None, description="Certificate, PEM; the engine makes one for hosts when absent."
    )
    key_file: FilePath | None = Field(None, description="Its private key, PEM.")
    ca_file: FilePath | None = Field(
        None, description="What the API server shall trust, PEM; the certificate itself when absent."
    )
    hosts: tuple[ServerName, ...] = Field(
        ("localhost", "127.0.0.1"), min_length=1, max_length=20,
        description="Names and addresses that the made certificate is for.",
    )  # fmt: skip
    engine_user: ClusterUser | None = Field(
        None, description="Who the engine is in the cluster: nobody else writes records there."
    )
    registration: Registration | None = Field(
        None, description="Keep the ValidatingWebhookConfiguration up to date; by hand when absent."
    )

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificateFile and keyFile go together")
        if self.ca_file is not None and self.certificate_file is None:
            raise ValueError("caFile goes with certificateFile")
        return self
