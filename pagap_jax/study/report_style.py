"""The look of the report, in light and in dark, on a wide screen and on a phone."""

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #24292f; --muted: #59636e;
  --rule: #d8dee4; --tile: #f6f8fa; --gold: #9a6700; --line-0072b2: #0072b2; --line-d55e00: #c04f00;
  --line-009e73: #007a59; --line-56b4e9: #2f94cf; --line-e69f00: #b87f00; --line-a05195: #a05195;
  --line-cc79a7: #b5588a; --passed: #1a7f37; --missed: #c62828;
  --shadow: #59636e66; --alert: #fff8e5; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0d1117; --ink: #e6edf3; --muted: #9198a1; --rule: #30363d; --tile: #161b22;
    --gold: #d9a441; --line-0072b2: #58b4f0; --line-d55e00: #ff8f4d; --line-009e73: #3fc79a;
    --line-56b4e9: #9bd7ff; --line-e69f00: #f5c04a; --line-a05195: #cf8fc6; --line-cc79a7: #eaa3c9;
    --passed: #3fb950; --missed: #ff7b72; --shadow: #9198a16b; --alert: #2b2310; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1.25rem 4rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1.75rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--rule); }
p, li { max-width: 46rem; }
.lede { font-size: 1.1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(14rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0; }
.tile { background: var(--tile); border: 1px solid var(--rule); border-radius: .5rem;
  padding: .8rem 1rem; }
.tile b { display: block; font-size: 1.9rem; line-height: 1.25; }
.tile span { display: block; color: var(--muted); font-size: .85rem; }
.online b { color: var(--line-0072b2); }
.offline b { color: var(--line-d55e00); }
nav ul { columns: 2; padding-left: 1.1rem; }
@media (max-width: 40rem) { nav ul { columns: 1; } }
a { color: inherit; }
figcaption code { overflow-wrap: anywhere; }
figure { margin: 1.5rem 0 2rem; }
svg { display: block; width: 100%; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption, .about { color: var(--muted); font-size: .88rem; max-width: 58rem; margin: .5rem 0; }
/* What scrolls has an edge, and a shadow on each side where there is more. */
.scroll { overflow-x: auto; max-width: 100%; width: fit-content; margin: .5rem 0 1.75rem;
  border: 1px solid var(--rule); border-radius: .4rem;
  background: linear-gradient(90deg, var(--page) 40%, transparent) 0 0 / 2rem 100% no-repeat local,
    linear-gradient(270deg, var(--page) 40%, transparent) 100% 0 / 2rem 100% no-repeat local,
    linear-gradient(90deg, var(--shadow), transparent) 0 0 / .9rem 100% no-repeat scroll,
    linear-gradient(270deg, var(--shadow), transparent) 100% 0 / .9rem 100% no-repeat scroll; }
figure .scroll { width: auto; margin: 0; border: 0; border-radius: 0; }
@media (max-width: 62rem) { figure .scroll { border: 1px solid var(--rule); } }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--rule); text-align: right;
  white-space: nowrap; vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child, td:first-child, .text { text-align: left; }
tbody th, td.text { white-space: normal; max-width: 22rem; overflow-wrap: break-word; }
tbody .long { min-width: 9rem; }
thead th { border-bottom: 2px solid var(--rule); color: var(--muted); font-weight: 600; }
tbody th { font-weight: 500; }
.passed, .missed, .agrees, .disagrees, .undecided { text-align: left; }
.passed, .agrees { color: var(--passed); }
.missed, .disagrees { color: var(--missed); font-weight: 700; }
.alert { --page: var(--alert); background: var(--alert); margin: 1.25rem 0;
  border-left: .3rem solid var(--gold); padding: .25rem 1rem .75rem; border-radius: .25rem; }
.alert li { margin: .3rem 0; overflow-wrap: anywhere; }
.alert h2 { border: 0; margin-top: .5rem; padding-top: 0; }
.block { margin: .75rem 0; }
summary { cursor: pointer; }
.block > summary { font-weight: 500; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr));
  gap: .75rem; margin: .6rem 0 1.5rem; }
.card { background: var(--tile); border: 1px solid var(--rule); border-radius: .5rem;
  padding: .6rem .8rem; display: flex; flex-direction: column; min-width: 0; }
.card .about { margin: 0 0 .35rem; overflow-wrap: anywhere; }
.card > span:last-child { margin-top: auto; padding-top: .35rem; font-size: .85rem; }
.words { white-space: pre-wrap; overflow-wrap: anywhere; }
details.words[open] > summary { color: var(--muted); }
.loses { color: var(--missed); }
.wins { color: var(--passed); }
b.online { color: var(--line-0072b2); }
b.offline { color: var(--line-d55e00); }
@media print { .scroll { overflow: visible; } figure { break-inside: avoid; } }
"""
