"""The page of a study over the studies of WORKBENCH_HOME, as an app for ``panel serve``."""

from __future__ import annotations

import panel as pn

from widgets.dashboards import begin
from widgets.dashboards.study import page

if pn.state.served:
    begin()
    page().servable()
