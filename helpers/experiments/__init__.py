"""Which runs the report compares, and how long and how often each is made."""

from helpers.experiments.plan import *
from helpers.experiments.run import *
from helpers.experiments.tables import *
