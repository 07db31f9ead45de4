"""Make dashboards/ssb-pub.json from panels.py: ``make dashboards``; with ``--stdout`` print it instead.

The JSON is committed, since Grafana reads files and whoever runs a pub need not run this. A test compares the two.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.builders import common, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    FieldColor,
    QueryVariable,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.dashboard import Row as RowBuilder
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    FieldColorModeId,
    GridPos,
    Threshold,
    VariableRefresh,
    VariableSort,
)
from panels import ROWS, STATS_IN_A_ROW, Kind, Panel, Row, Steps

DASHBOARD = Path(__file__).parent / "dashboards" / "ssb-pub.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24  # columns of Grafana's grid
SIZES: dict[Kind, tuple[int, int]] = {  # columns, lines
    "stat": (WIDTH // STATS_IN_A_ROW, 4),
    "text": (WIDTH // STATS_IN_A_ROW, 4),
    "states": (WIDTH, 6),
    "graph": (8, 8),
    "stacked": (8, 8),
}
Builder = stat.Panel | statetimeline.Panel | timeseries.Panel


def dashboard() -> Dashboard:
    made = (
        Dashboard("SSB pub")
        .uid("ssb-pub")
        .description("One Secure Scuttlebutt pub: is it well, and if not, where does it hurt? Made by generate.py.")
        .tags(["ssb"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("job", "label_values(ssb_pub_build_info, job)"))
        .with_variable(_variable("instance", 'label_values(ssb_pub_build_info{job="$job"}, instance)'))
    )
    number, line = 1, 0
    for row in ROWS:
        made.with_row(RowBuilder(row.title).id(number).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=line)))
        placed, line = _place(row, line + 1)
        for panel, where in placed:
            number += 1
            made.with_panel(_panel(panel).id(number).grid_pos(where))
        number += 1
    return made


def _variable(name: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def _place(row: Row, line: int) -> tuple[list[tuple[Panel, GridPos]], int]:
    """Panels from left to right, and the first line below them."""
    placed, column, below = list[tuple[Panel, GridPos]](), 0, line
    for panel in row.panels:
        width, height = SIZES[panel.kind]
        if column + width > WIDTH:
            column, line = 0, below
        placed.append((panel, GridPos(h=height, w=width, x=column, y=line)))
        column, below = column + width, max(below, line + height)
    return placed, below


def _panel(panel: Panel) -> Builder:
    made = BUILDERS[panel.kind]()
    made.title(panel.title).description(panel.sentence).unit(panel.unit).datasource(SOURCE)
    made.thresholds(_thresholds(panel.steps))
    for letter, (expression, legend) in zip("ABCDEFGH", panel.queries, strict=False):
        query = Dataquery().ref_id(letter).datasource(SOURCE).expr(expression).legend_format(legend)
        made.with_target(query.instant() if panel.kind in ("stat", "text") else query.range())
    return made


def _thresholds(steps: Steps) -> ThresholdsConfig:
    return ThresholdsConfig().steps([Threshold(value, colour) for value, colour in steps])


def _stat() -> stat.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    made = stat.Panel().graph_mode(BigValueGraphMode.NONE).color_mode(BigValueColorMode.VALUE).reduce_options(last)
    return made.color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS)).no_value("none")


def _text() -> stat.Panel:
    """Shows the legend, not the value."""
    return _stat().text_mode(BigValueTextMode.NAME)


def _states() -> statetimeline.Panel:
    made = statetimeline.Panel().show_value(VisibilityMode.NEVER).row_height(0.8).merge_values(True)
    return made.color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))


def _graph() -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    made = timeseries.Panel().legend(legend.show_legend(True)).tooltip(tooltip)
    return made.line_width(1).fill_opacity(10).show_points(VisibilityMode.NEVER).axis_soft_min(0)


def _stacked() -> timeseries.Panel:
    return _graph().fill_opacity(40).stacking(common.StackingConfig().mode(StackingMode.NORMAL))


BUILDERS: dict[Kind, Callable[[], Builder]] = {
    "graph": _graph,
    "stacked": _stacked,
    "stat": _stat,
    "text": _text,
    "states": _states,
}


def as_json() -> str:
    return json.dumps(dashboard().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    if "--stdout" in sys.argv:
        sys.stdout.write(as_json())
    else:
        DASHBOARD.write_text(as_json())
