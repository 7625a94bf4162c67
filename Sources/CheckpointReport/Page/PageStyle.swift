/// The page's style sheet. Colours come in pairs, for light and for dark; the page follows the system unless the reader
/// chooses.
enum PageStyle {
  static let text = """
    :root { color-scheme: light; --ground: #fbfaf8; --card: #ffffff; --ink: #1c1d21; --soft: #62656e;
      --line: #dddad3; --accent: #2457c5; --good: #1a7f4b; --bad: #c0292b; --empty: #ece9e2; }
    :root[data-theme="dark"] { color-scheme: dark; --ground: #15171b; --card: #1d2026; --ink: #e9e9ec;
      --soft: #a0a4af; --line: #343842; --accent: #86aefc; --good: #5cc98d; --bad: #ff7d78; --empty: #2a2e36; }
    @media (prefers-color-scheme: dark) { :root:not([data-theme="light"]) { color-scheme: dark; --ground: #15171b;
      --card: #1d2026; --ink: #e9e9ec; --soft: #a0a4af; --line: #343842; --accent: #86aefc; --good: #5cc98d;
      --bad: #ff7d78; --empty: #2a2e36; } }
    * { box-sizing: border-box; }
    body { margin: 0; background: var(--ground); color: var(--ink);
      font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
    main { max-width: 1180px; margin: 0 auto; padding: 28px 22px 60px; }
    header { display: flex; align-items: baseline; gap: 16px; flex-wrap: wrap; }
    h1 { font-size: 27px; margin: 0; overflow-wrap: anywhere; }
    h2 { font-size: 19px; margin: 40px 0 6px; }
    h3 { font-size: 15px; margin: 22px 0 4px; }
    p { margin: 4px 0 12px; color: var(--soft); max-width: 88ch; overflow-wrap: anywhere; }
    p.verdict { font-weight: 600; } p.good { color: var(--good); } p.bad { color: var(--bad); }
    button, select, input { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
      border-radius: 7px; padding: 5px 10px; }
    button { cursor: pointer; }
    #theme { margin-left: auto; }
    .cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 16px 0 8px; }
    .cards div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px 14px; }
    .cards b { display: block; font-size: 19px; font-weight: 650; font-variant-numeric: tabular-nums;
      overflow-wrap: anywhere; }
    .cards span { color: var(--soft); font-size: 13px; }
    svg { display: block; width: 100%; height: auto; font-family: inherit; margin: 6px 0; }
    svg.scale { max-width: 460px; }
    svg text { font-size: 10px; fill: var(--ink); }
    svg .label { fill: var(--soft); } svg .strong, svg .heading { font-weight: 650; fill: var(--ink); }
    svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
    .treemap text { pointer-events: none; fill: #15171b; } .treemap .heading { font-size: 11px; }
    .treemap rect { stroke: #ffffff; stroke-width: .35; stroke-opacity: .6; }
    .treemap rect[data-i] { cursor: pointer; } .treemap rect[data-i]:hover { fill-opacity: .65; }
    .treemap rect.ground { stroke: none; }
    .treemap rect.edge { fill: none; stroke: #15171b; stroke-width: .7; stroke-opacity: .55; pointer-events: none; }
    .card { fill: var(--card); stroke: var(--line); }
    .arrow, .rule, .limit { fill: none; stroke: var(--soft); stroke-width: 1.2; }
    .rule { stroke: var(--line); stroke-width: .8; } .limit { stroke: var(--ink); }
    .points { fill: none; stroke: var(--accent); stroke-width: 2; } .bar { fill: var(--accent); }
    .fault { fill: var(--bad); }
    .role-routed_experts { fill: #7fa8e8; background: #7fa8e8; } .role-attention { fill: #f0ae56; background: #f0ae56; }
    .role-shared_expert { fill: #66b583; background: #66b583; } .role-dense_ffn { fill: #4fb3ad; background: #4fb3ad; }
    .role-embedding { fill: #a58bd0; background: #a58bd0; } .role-lm_head { fill: #c58fc2; background: #c58fc2; }
    .role-router { fill: #e2696c; background: #e2696c; } .role-norm { fill: #b5b1a7; background: #b5b1a7; }
    .role-vision { fill: #cf9b74; background: #cf9b74; } .role-projector { fill: #e38fb4; background: #e38fb4; }
    .role-scale { fill: #8fa0b8; background: #8fa0b8; } .role-other { fill: #92949b; background: #92949b; }
    .heat-0 { fill: var(--empty); } .heat-1 { fill: #440154; } .heat-2 { fill: #482878; } .heat-3 { fill: #3e4989; }
    .heat-4 { fill: #31688e; } .heat-5 { fill: #26828e; } .heat-6 { fill: #1f9e89; } .heat-7 { fill: #35b779; }
    .heat-8 { fill: #6ece58; } .heat-9 { fill: #b5de2b; } .heat-10 { fill: #fde725; }
    .legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--soft); margin: 6px 0; }
    .legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; }
    .scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
    table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
    th, td { text-align: left; padding: 4px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
    td.name { white-space: normal; overflow-wrap: anywhere; min-width: 220px; }
    th { color: var(--soft); font-weight: 600; position: sticky; top: 0; background: var(--card); }
    th[data-key] { cursor: pointer; } th.number, td.number { text-align: right; }
    tbody tr[data-i] { cursor: pointer; } tbody tr[data-i]:hover, tr.chosen { background: var(--empty); }
    .tools { display: flex; gap: 8px; flex-wrap: wrap; margin: 10px 0; align-items: center; color: var(--soft); }
    .tools input { flex: 1 1 260px; }
    #details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px;
      margin: 10px 0; }
    #details:empty { display: none; }
    #details h3 { margin: 0 0 4px; overflow-wrap: anywhere; }
    #tip { position: fixed; display: none; pointer-events: none; background: var(--ink); color: var(--ground);
      padding: 4px 9px; border-radius: 6px; font-size: 12px; max-width: 560px; overflow-wrap: anywhere; z-index: 2; }
    footer { margin-top: 44px; color: var(--soft); font-size: 13px; border-top: 1px solid var(--line); padding-top: 10px; }
    """
}
