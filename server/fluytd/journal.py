"""The daemon's own log on standard error: lines for people, or JSON lines for machines. Not the logs of containers."""

import json
import logging
import sys
import time
from typing import Final

_PLAIN: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_PLAIN_TIME: Final = "%Y-%m-%dT%H:%M:%S"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and trace where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without its end."""
        seconds = time.strftime(_PLAIN_TIME, time.gmtime(record.created))
        line = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(level: str, log_format: str) -> None:
    """Everything logged from now on goes to standard error. `level`, `log_format`: as in `Config`."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        formatter = logging.Formatter(f"{_PLAIN}", f"{_PLAIN_TIME}Z")
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
