"""Whether W&B can be used, asked once before anything trains."""

import urllib.error
import urllib.request

from ablations.errors import UserError
from ablations.tracking.runs import close_service, first_line

SECONDS = 10
"""How long W&B has to answer."""


def connect() -> str:
    """Return why W&B cannot be reached; empty if it can, or if it is set to write to the disk alone.

    Raises:
        UserError: it can, but there is no account to write to.
    """
    import wandb  # only here: whoever does not track should not wait for it

    try:
        settings = wandb.setup().settings
        if settings.mode != "online":
            return ""
        if reason := _unreachable(settings.base_url):
            return reason
        wandb.Api(timeout=SECONDS)
    except wandb.Error as error:
        raise UserError(
            f"W&B knows no account here ({first_line(error)}). Log in with `wandb login`, or set WANDB_MODE=offline to "
            f"write to the disk and send that later with `wandb sync`."
        ) from None
    finally:
        close_service()
    return ""


def _unreachable(address: str) -> str:
    try:
        urllib.request.urlopen(address, timeout=SECONDS).close()
    except urllib.error.HTTPError:
        return ""  # it answers
    except OSError as error:
        return f"{address}: {getattr(error, 'reason', error)}"
    return ""
