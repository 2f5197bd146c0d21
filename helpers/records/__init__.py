"""What came out of the runs: their records, and what is read from them."""

from helpers.records.files import RecordError, first_line, plain, put, read
from helpers.records.selection import *
from helpers.records.statistics import *
from helpers.records.status import *
from helpers.records.store import *
