"""Who asks a registry, and by which way. It does no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller sends for a registry; never logged, stored or shown."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def is_anonymous(self) -> bool:
        """True if nothing was given."""
        return not (self.username or self.password or self.identity_token or self.registry_token)


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxies by the scheme of the URL that is asked; URLs may hold passwords and are not shown."""

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    #: Hosts without a proxy, divided by commas.
    excepted: str = ""


def proxies_of(environment: Mapping[str, str], configured: Proxies) -> Proxies:
    """The proxies that count: a configured one, else that of the environment.

    In the environment the lower-case name wins. HTTP_PROXY in upper case is not looked at where REQUEST_METHOD is set,
    since a CGI server makes it of a request's header. ALL_PROXY stands for both.

    Source: curl(1), ENVIRONMENT; "httpoxy", CVE-2016-5385.
    """

    def found(*names: str) -> str:
        return next((environment[name] for name in names if environment.get(name)), "")

    upper_http = () if "REQUEST_METHOD" in environment else ("HTTP_PROXY",)
    return Proxies(
        http=configured.http or found("http_proxy", *upper_http, "all_proxy", "ALL_PROXY"),
        https=configured.https or found("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
        excepted=configured.excepted or found("no_proxy", "NO_PROXY"),
    )
