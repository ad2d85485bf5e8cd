"""The one exception a user may see."""


class SfumatoError(Exception):
    """Bad input or a broken file.

    The message is a single line that says what was wrong, what was expected and what to do. The command line prints it
    and exits with code 2; library users catch this class.
    """
