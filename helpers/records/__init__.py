"""What came out of the runs: their records, and what is read from them."""

from helpers.records.store import *
