r"""The grid's tables to matplotlib figures: every cell's times and gaps to retrain; nothing is computed here."""

import matplotlib.pyplot as plt
import numpy as np

from megu.style import PART_COLOURS, styled

# Okabe-Ito without yellow; a second round has other markers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vP"
