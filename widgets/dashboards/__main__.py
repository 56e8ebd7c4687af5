"""``python -m widgets.dashboards``: what ``workbench pages`` runs, for those who start servers by a command line."""

from __future__ import annotations

import sys

from widgets.dashboards import main

sys.exit(main(sys.argv[1:]))
