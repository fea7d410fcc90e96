"""The one exception for mistakes a user can make and repair."""


class ReidError(ValueError):
    """A wrong argument, file or configuration; the message says what, why and how to repair it.

    Scripts turn it into one line on stderr and exit code 2. A message names the argument, the rule,
    the value received and the remedy, in this order.
    """


def one_line(error: BaseException) -> str:
    """The message of an error on one line; the name of its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
