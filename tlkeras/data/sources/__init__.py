"""Where labelled images come from: one module a kind, one table of kinds."""

from tlkeras.data.sources.kinds import KINDS as KINDS
from tlkeras.data.sources.kinds import absolute as absolute
from tlkeras.data.sources.kinds import file_place as file_place
from tlkeras.data.sources.kinds import open as open
from tlkeras.data.sources.listing import files as files
from tlkeras.data.sources.source import Example as Example
from tlkeras.data.sources.source import Source as Source
from tlkeras.data.sources.source import Stamp as Stamp
from tlkeras.data.sources.source import check_classes as check_classes
from tlkeras.data.sources.source import is_label as is_label
from tlkeras.data.sources.source import normal_form as normal_form
from tlkeras.data.sources.source import read as read
from tlkeras.data.sources.source import stamps as stamps
