"""The one exception a user may see, and the one warning."""

import warnings


class SfumatoError(Exception):
    """Bad input or a broken file.

    The message is a single line that says what was wrong, what was expected and what to do. The command line prints it
    and exits with code 2; library users catch this class.
    """


class SfumatoWarning(UserWarning):
    """What goes on but not as the user may expect; a single line, which the command line prints."""


def warn(text: str) -> None:
    """Tell the user something once a run, not once a picture."""
    warnings.warn(text, SfumatoWarning, stacklevel=3)
