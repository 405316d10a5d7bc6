"""Where alerts go: Apprise addresses, checked before anything is made of them.

An address is a secret as a whole: a web hook's path is its password. It is kept as a block of
Prefect's, whose server encrypts it, and shown nowhere.
"""

from typing import NamedTuple
from urllib.parse import parse_qs

from pydantic import SecretStr

from quickdraw_core.errors import ConfigError

_HOOKS = {"https": "jsons", "http": "json"}
"""What Apprise calls a web hook of no service that it knows."""
_EXAMPLES = (
    "mailto://HOST?from=ME@HOST&to=YOU@HOST, slack://A/B/C or https://HOST/HOOK "
    "(all forms: github.com/caronc/apprise/wiki)"
)


class Address(NamedTuple):
    """An address as Apprise takes it. service: whose it is, for people: E-Mail, Slack, JSON."""

    url: SecretStr
    service: str


def address_of(secret: SecretStr, number: int = 1) -> Address:
    """An address that Apprise takes, as plain text in one message.

    A web address of no service that it knows is a web hook: it gets JSON by POST. number: which
    of several it is. Raises `ConfigError`, which says nothing of the address but its scheme.
    """
    text = secret.get_secret_value().strip()
    scheme, separator, rest = text.partition("://")
    service = _service_of(text)
    if service is None and scheme.lower() in _HOOKS:
        text = f"{_HOOKS[scheme.lower()]}://{_with_its_query(rest)}"
        service = _service_of(text)
    if service is None or any(character.isspace() for character in text):
        shown = f"{scheme}://…" if separator else "without a scheme"
        raise ConfigError(
            f"address {number} of --alert ({shown}) is not one that Apprise takes; give "
            f"{_EXAMPLES}"
        )
    return Address(SecretStr(_as_text(text)), service)


def _with_its_query(address: str) -> str:
    """A web address without its scheme whose query is sent as it is: Apprise takes the keys of a
    query as options of its own, but for those that begin with `-`.
    """
    before, separator, query = address.partition("?")
    return before + separator + "&".join(f"-{part}" for part in query.split("&") if part)


def _service_of(text: str) -> str | None:
    """The name of the service of an address; None if Apprise does not take it."""
    import logging

    from apprise import Apprise  # which loads some hundred services

    logger = logging.getLogger("apprise")
    before = logger.disabled
    logger.disabled = True  # it would log the address
    try:
        client = Apprise()
        is_one = client.add(text) and len(client) == 1
        return str(client[0].service_name) if is_one else None
    finally:
        logger.disabled = before


def _as_text(text: str) -> str:
    """The address with what makes one message of plain text, unless it says otherwise: a service
    may read marks of HTML or Markdown in log lines, and cut a long text into several.
    """
    _, _, query = text.partition("?")  # a `#` before it is Slack's channel, no fragment
    wanted = {"format": "text", "overflow": "truncate"}
    missing = [f"{name}={value}" for name, value in wanted.items() if name not in parse_qs(query)]
    return f"{text}{'&' if query else '?'}{'&'.join(missing)}" if missing else text
