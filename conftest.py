"""Without a word from the caller, a plain `pytest --nbval notebooks` shows the committed records and trains nothing."""

import os

if "REPORT_BUDGET" not in os.environ:
    os.environ.setdefault("RECORDS_ONLY", "1")
