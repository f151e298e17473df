"""The version, in one place: the wheel, `remit --version` and the OpenAPI documents read it from here."""

__version__ = "0.1.0"
