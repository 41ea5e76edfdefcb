"""The one exception for wrong input: a sentence that says what, where and what to do."""


class UserError(Exception):
    """Wrong input that the user can put right; the command line prints its one line and exits with code 2.

    Raised by the library wherever a value from outside is refused. The message carries the value seen, the values
    allowed and the next step, in one line.
    """
