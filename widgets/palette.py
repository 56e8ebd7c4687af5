"""Colours and control styles of every widget and page, in one place.

The hues are those of Okabe and Ito (2008), distinguishable with every common colour vision deficiency.
Surfaces and text follow the surrounding page: JupyterLab's ``--jp-*`` variables where they exist,
then those of Panel, then a light fallback.
"""

from __future__ import annotations

BLUE = "#0072B2"
SKY = "#56B4E9"
GREEN = "#009E73"
ORANGE = "#E69F00"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
YELLOW = "#F0E442"
BLACK = "#000000"

OKABE_ITO = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, YELLOW, BLACK)
"""The order in which categories take their colours."""

VIRIDIS = ("#440154", "#472D7B", "#3B528B", "#2C728E", "#21918C", "#28AE80", "#5EC962", "#ADDC30", "#FDE725")
"""Nine even steps of viridis (Smith and van der Walt, 2015), the scale of numbers: even in lightness, so it is read
alike with every common colour vision deficiency and in grey."""


def theme() -> str:
    """The style sheet that every widget carries: variables, then controls.

    Every rule is below ``.wb``, the class of a widget's root, so nothing outside is touched.
    ``data-dark`` on the root is set by the widget from the colour it stands on.
    """
    hues = "".join(f"--wb-c{i}:{hue};" for i, hue in enumerate(OKABE_ITO))
    light = f".wb{{{hues}--wb-accent:{BLUE};--wb-mark:{VERMILLION};--wb-good:{GREEN};--wb-warn:{ORANGE};}}"
    dark = (
        f".wb[data-dark='true']{{--wb-accent:{SKY};--wb-mark:{ORANGE};--wb-warn:{YELLOW};--wb-on-accent:#10222e;"
        "--wb-error:#ff9a66;color-scheme:dark;}"
    )
    return light + _SURFACES + _CONTROLS + dark


_SURFACES = """
.wb{--wb-bg:var(--jp-layout-color0,var(--mui-palette-background-paper,var(--panel-surface-color,#fff)));
--wb-panel:var(--jp-layout-color1,var(--mui-palette-background-default,var(--panel-background-color,#f6f7f8)));
--wb-line:var(--jp-border-color2,var(--mui-palette-divider,#dcdfe3));
--wb-ink:var(--jp-ui-font-color1,var(--mui-palette-text-primary,var(--panel-on-surface-color,#1b1f23)));
--wb-soft:var(--jp-ui-font-color2,var(--mui-palette-text-secondary,#5b636b));
--wb-hover:color-mix(in srgb,var(--wb-accent) 12%,transparent);
--wb-tint:color-mix(in srgb,var(--wb-accent) 22%,transparent);
--wb-on-accent:#fff;--wb-error:#a33f00;
color-scheme:light;box-sizing:border-box;position:relative;width:100%;padding:14px 16px 16px;color:var(--wb-ink);
background:var(--wb-bg);border:1px solid var(--wb-line);border-radius:6px;
font:13px/1.45 var(--jp-ui-font-family,var(--mui-font-family,system-ui,-apple-system,"Segoe UI",Roboto,sans-serif));}
"""

_CONTROLS = """
.wb *{box-sizing:border-box;}
.wb h3{font-size:15px;line-height:1.3;font-weight:600;margin:0;overflow-wrap:anywhere;}
.wb h4{font-size:12px;line-height:1.4;font-weight:600;margin:0 0 5px;color:var(--wb-soft);}
.wb p{margin:0;}
.wb table{color:inherit;font:inherit;}
.wb .soft{color:var(--wb-soft);}
.wb .small{font-size:12px;}
.wb .num{font-variant-numeric:tabular-nums;text-align:right;white-space:nowrap;}
.wb .cut{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;min-width:0;}
.wb button,.wb select,.wb input[type=search]{font:inherit;color:var(--wb-ink);background:var(--wb-bg);
border:1px solid var(--wb-line);border-radius:4px;padding:4px 9px;min-height:28px;max-width:100%;}
.wb input[type=search]{width:100%;}
.wb button{cursor:pointer;}
.wb button:hover:not(:disabled){background:var(--wb-hover);}
.wb button:disabled{opacity:.5;cursor:default;}
.wb button.main{background:var(--wb-accent);border-color:var(--wb-accent);color:var(--wb-on-accent);font-weight:600;}
.wb button.main:hover:not(:disabled){background:var(--wb-accent);filter:brightness(1.08);}
.wb button[aria-pressed=true]{background:var(--wb-tint);border-color:var(--wb-accent);}
.wb :focus{outline:none;}
.wb :focus-visible{outline:2px solid var(--wb-accent);outline-offset:1px;}
.wb .list{position:relative;overflow-y:auto;border:1px solid var(--wb-line);border-radius:4px;background:var(--wb-bg);}
.wb .list>.rows{position:relative;}
.wb .list .row{position:absolute;left:0;right:0;display:flex;align-items:center;gap:8px;padding:0 9px;cursor:pointer;}
.wb .list .row:hover{background:var(--wb-hover);}
.wb .list .row[aria-selected=true]{background:var(--wb-tint);}
.wb .list:focus-visible .row.active{box-shadow:inset 0 0 0 2px var(--wb-accent);}
.wb .empty{padding:26px 18px;text-align:center;color:var(--wb-soft);}
.wb .bar{position:relative;height:7px;border-radius:2px;overflow:hidden;
background:color-mix(in srgb,var(--wb-soft) 16%,transparent);}
.wb .bar>i{position:absolute;left:0;top:0;bottom:0;background:var(--wb-accent);}
.wb .bar>i.faint{background:color-mix(in srgb,var(--wb-accent) 34%,transparent);}
.wb .hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap;}
.wb [hidden]{display:none!important;}
.wb canvas{display:block;}
"""
