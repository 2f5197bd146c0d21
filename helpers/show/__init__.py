"""What a notebook shows: `report = Report()`, then `report["1.2 batch norm"]`, and `say` for prose with numbers."""

from helpers.show.comparison import Comparison, Report
from helpers.show.settings import differences, settings
from helpers.show.text import listed, percent, say, share, signed, source
