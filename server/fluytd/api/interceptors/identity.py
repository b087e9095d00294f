"""Who calls: the principal of a connection. It does not decide what a principal may do."""

from typing import Any, Final

#: Principal of whoever could open the unix socket: its file mode lets root and one group in.
LOCAL_PRINCIPAL: Final = "local"


def principal_of(context: Any) -> str:
    """The first alternative name, else the common name, of the client's certificate; `local` on the unix socket.

    Empty for a connection that proved nothing. gRPC does not tell the peer's user id of a unix socket; the kernel has
    checked the socket's mode when it was connected.
    """
    if context.peer().startswith("unix"):
        return LOCAL_PRINCIPAL
    proved = context.auth_context()
    if proved.get("transport_security_type", [b""])[0] != b"ssl":
        return ""
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        for name in proved.get(key, ()):
            text: str = name.decode("utf-8", "replace")
            if text:
                return text
    return ""
