"""MariaDB and MySQL by PyMySQL: connections that keep our time limits, and what its errors mean."""

from __future__ import annotations

import threading
from typing import Any

from pymysql.connections import Connection  # type: ignore[import-untyped]

# By this name: where a Django site uses PyMySQL in the place of MySQLdb, the attribute pymysql.err becomes another module.
from pymysql.err import NotSupportedError  # type: ignore[import-untyped]

from acme_middleware.stores import sql_limits
from acme_middleware.stores.sql_errors import Fault

__all__ = ["connect", "fault"]


_making = threading.Lock()


class _Connection(Connection):  # type: ignore[misc]
    """PyMySQL sets these limits, in seconds, before each wait for the socket. What it would keep itself is the same for all."""

    @property
    def _read_timeout(self) -> float:
        return sql_limits.left()

    @_read_timeout.setter
    def _read_timeout(self, value: float | None) -> None:
        """Each wait has its own."""

    _write_timeout = _read_timeout
    _usual_context: Any = None

    def _create_ssl_ctx(self, options: Any) -> Any:
        # Without TLS options in the URL one is made for each connection, and reading all of the system's roots takes longer
        # than all the rest.
        if options:
            return super()._create_ssl_ctx(options)
        with _making:
            if _Connection._usual_context is None:
                _Connection._usual_context = super()._create_ssl_ctx(options)
        return _Connection._usual_context


def connect(*args: Any, **kwargs: Any) -> Any:
    """Connect as ``pymysql.connect`` does."""
    limits = {"connect_timeout": min(sql_limits.CONNECT_LIMIT, sql_limits.left()), "read_timeout": sql_limits.USUAL_LIMIT}
    # Under MySQL's default a statement locks the gaps between rows too, and two that delete what has expired would deadlock.
    session = {"init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", "charset": "utf8mb4"}
    try:
        return _Connection(*args, **{**session, **kwargs, **limits})
    except (TypeError, ValueError) as error:  # its words for an option of the URL that it does not know, or cannot read
        raise NotSupportedError(_NO_SUCH_OPTION, str(error)) from None


_NO_SUCH_OPTION = -1
_CODES = {
    _NO_SUCH_OPTION: Fault.OPTION,
    **dict.fromkeys((1045, 1130, 1251, 1524, 1698, 1862, 2059, 3118, 4151), Fault.LOGIN),
    1049: Fault.DATABASE,
    **dict.fromkeys((1044, 1142, 1143, 1227), Fault.RIGHTS),
    **dict.fromkeys((1054, 1146), Fault.TABLES),
    **dict.fromkeys((1290, 1792, 1836), Fault.READ_ONLY),
    **dict.fromkeys((1064, 1235, 1273), Fault.ENGINE),
}


def fault(error: BaseException) -> Fault | None:
    """What no waiting mends, or None."""
    return _CODES.get(error.args[0]) if error.args else None
