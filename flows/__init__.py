"""Prefect's flows. Whatever they log, which goes to Prefect's server too, is without secrets."""

from quickdraw_core.redaction import hide_in_logs

hide_in_logs()
