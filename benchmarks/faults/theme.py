"""Colours and type of the report: light, dark, and on paper."""

LIGHT = """
--paper:#ffffff;--card:#fbfaf8;--ink:#1d1c1a;--soft:#6b6862;--grid:#e9e6e0;--base:#bdb8ae;
--rate:#1f6f8b;--p50:#3d5a98;--p99:#9a5fb5;--tries:#e0a030;--failed:#c8323c;--degraded:#a06a3c;
--fault:#c8323c;--healthy:#5aa469;--hurt:#e0a030;--down:#c8323c;
"""
DARK = """
--paper:#15161a;--card:#1b1d22;--ink:#eceae6;--soft:#a09d97;--grid:#2b2e35;--base:#555962;
--rate:#5ab4d0;--p50:#86a6ec;--p99:#c593dd;--tries:#e8b556;--failed:#f0606a;--degraded:#d19a6a;
--fault:#f0606a;--healthy:#5fb774;--hurt:#e8b556;--down:#f0606a;
"""
FONT = "system-ui,-apple-system,'Segoe UI',Inter,Roboto,'Helvetica Neue',Arial,sans-serif"

MARKS = f"""
.picture{{font-family:{FONT};font-size:11px;font-variant-numeric:tabular-nums}}
.picture text{{fill:var(--soft)}}
.picture .title{{fill:var(--ink);font-size:12px;font-weight:600}}
.picture .note{{font-size:11px}}
.picture .bad{{fill:var(--failed);font-weight:600}}
.picture .mark{{fill:var(--fault);font-size:11.5px;font-weight:600}}
.picture .state-name{{font-size:10.5px}}
.picture .grid{{stroke:var(--grid);stroke-width:1;fill:none}}
.picture .base{{stroke:var(--base);stroke-width:1;fill:none}}
.picture .fault{{fill:var(--fault);opacity:.08}}
.picture .moment{{stroke:var(--fault);stroke-width:1.2;fill:none;opacity:.75}}
.picture .minor{{stroke-dasharray:2 3;opacity:.4}}
.picture .line{{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}}
.picture .line.rate{{stroke:var(--rate)}}
.picture .line.p50{{stroke:var(--p50)}}
.picture .line.p99{{stroke:var(--p99)}}
.picture .line.degraded{{stroke:var(--degraded);stroke-width:1.4}}
.picture .area.rate{{fill:var(--rate);opacity:.14}}
.picture .area.degraded{{fill:var(--degraded);opacity:.22}}
.picture .bar.tries{{fill:var(--tries)}}
.picture .bar.failed{{fill:var(--failed)}}
.picture .state.healthy{{fill:var(--healthy)}}
.picture .state.hurt{{fill:var(--hurt)}}
.picture .state.down{{fill:var(--down)}}
.picture .tip{{fill:var(--ink);opacity:0}}
.picture .tip:hover{{opacity:.06}}
.picture .paper{{fill:var(--paper)}}
.picture .heading{{fill:var(--ink);font-size:19px;font-weight:650;letter-spacing:-.01em}}
.picture .subheading{{font-size:12.5px}}
"""

PICTURE_STYLE = (
    f".picture{{{LIGHT}}}@media(prefers-color-scheme:dark){{.picture{{{DARK}}}}}{MARKS}"
).replace("\n", "")

PAGE_STYLE = f"""
:root{{color-scheme:light dark;{LIGHT}}}
@media screen and (prefers-color-scheme:dark){{:root{{{DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 {FONT};
font-variant-numeric:tabular-nums;-webkit-font-smoothing:antialiased}}
main{{max-width:1180px;margin:0 auto;padding:48px 28px 80px}}
h1{{font-size:34px;line-height:1.15;letter-spacing:-.02em;margin:0 0 10px;font-weight:680}}
h2{{font-size:21px;letter-spacing:-.01em;margin:0;font-weight:650}}
p{{margin:6px 0;max-width:76ch}}
a{{color:inherit}}
.soft{{color:var(--soft)}}
.facts{{color:var(--soft);font-size:14px;margin:14px 0 30px;display:grid;gap:2px 18px;
grid-template-columns:max-content 1fr;max-width:100%}}
.facts dt{{font-weight:600}}.facts dd{{margin:0;overflow-wrap:anywhere}}
.totals{{display:flex;flex-wrap:wrap;gap:12px;margin:26px 0 34px}}
.total{{background:var(--card);border:1px solid var(--grid);border-radius:10px;padding:14px 20px;
min-width:150px}}
.total b{{display:block;font-size:27px;line-height:1.2;letter-spacing:-.02em;font-weight:650}}
.total span{{color:var(--soft);font-size:13.5px}}
.wide{{overflow-x:auto;margin:0 0 46px}}
table{{border-collapse:collapse;width:100%;font-size:14.5px}}
th,td{{text-align:right;padding:8px 10px;border-bottom:1px solid var(--grid);white-space:nowrap}}
th{{font-weight:600;font-size:12.5px;line-height:1.3;color:var(--soft);vertical-align:bottom;
white-space:normal}}
th:first-child,td:first-child,.left{{text-align:left}}
tbody tr.first td{{border-top:1px solid var(--base)}}
td a{{text-decoration:none}}td a:hover{{text-decoration:underline}}
.bad{{color:var(--failed);font-weight:650}}
section{{background:var(--card);border:1px solid var(--grid);border-radius:12px;
padding:22px 24px 14px;margin:0 0 26px}}
.runs{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr));gap:18px;
margin-top:10px}}
figure{{margin:0}}
figcaption{{font-weight:600;font-size:14px;margin-bottom:4px}}
svg.picture{{width:100%;height:auto;display:block}}
.words{{font-size:13.5px;color:var(--soft);margin:2px 0 10px;padding-left:18px}}
footer{{color:var(--soft);font-size:14px;margin-top:44px}}
footer li{{margin:4px 0;max-width:86ch}}
@media print{{
 body{{font-size:11pt}}main{{padding:0;max-width:none}}
 section,.totals,tr{{break-inside:avoid}}section{{border:0;padding:8px 0;background:none}}
 .wide{{overflow:visible}}table{{font-size:8.5pt}}th,td{{padding:4px 5px}}
}}
{MARKS}
"""
