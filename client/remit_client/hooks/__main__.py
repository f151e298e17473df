"""``python -m remit_client.hooks claude``."""

from remit_client.hooks.main import main

main()
