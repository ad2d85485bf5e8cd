"""`python -m sfumato`."""

from sfumato.cli.main import app

app(prog_name="sfumato")
