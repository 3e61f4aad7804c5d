"""Whether TLS can use a certificate's file with its key, asked of OpenSSL before an edge is given them."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable


def pair_problem(certificate: str, private_key: str) -> str:
    """What OpenSSL has against two files of this machine, the certificate's whole chain included; empty when it loads them."""
    try:
        # The password is asked for on a terminal otherwise.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, private_key, password=lambda: b"")
    except (ssl.SSLError, OSError) as error:
        # [LIBRARY: REASON] words (where in Python's source)
        return re.sub(r"^\[.*?\] | \(_ssl\.c:\d+\)$", "", str(error.args[-1])) or type(error).__name__
    return ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., str]]:
        return {"pair_problem": pair_problem}
