/// The page's script: tooltips, the list of tensors with filter and sorting, and one tensor's figures.
///
/// It creates elements and sets their text, and never interprets text as markup. All drawings work without it.
enum PageScript {
  static let text = #"""
    "use strict";
    (() => {
      const data = JSON.parse(document.getElementById("data").textContent);
      const [NAME, TYPE, SHAPE, BYTES, ROLE, LAYER, FILE, COUNT, VALUES] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
      const byID = id => document.getElementById(id);
      const make = (parent, name, text, style) => {
        const element = parent.appendChild(document.createElement(name));
        if (text !== undefined) element.textContent = text;
        if (style) element.className = style;
        return element;
      };
      const draw = (parent, name, attributes, text) => {
        const element = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
        for (const key in attributes) element.setAttribute(key, attributes[key]);
        if (text !== undefined) element.textContent = text;
        return element;
      };
      const size = bytes => {
        const units = ["B", "kB", "MB", "GB", "TB"];
        let unit = 0;
        while (unit < 4 && bytes >= 999.5) { bytes /= 1000; unit += 1; }
        return (unit === 0 ? bytes : bytes < 9.995 ? bytes.toFixed(2) : bytes < 99.95 ? bytes.toFixed(1)
          : bytes.toFixed(0)) + " " + units[unit];
      };
      const number = value => value === null || value === undefined ? "-" : Math.abs(value) >= 1e5
        || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(4));
      const shape = tensor => tensor[SHAPE].length ? tensor[SHAPE].join("×") : "scalar";
      const title = tensor => tensor[NAME] + (tensor[COUNT] > 1 ? " (" + tensor[COUNT] + " tensors)" : "");

      // What the pointer is over.
      const tip = byID("tip");
      const cell = event => {
        const svg = event.target.closest ? event.target.closest("svg[data-grid]") : null;
        if (!svg) return null;
        const grid = data.grids[svg.dataset.grid];
        const box = svg.getBoundingClientRect();
        const unit = 1000 / box.width;
        const column = Math.floor(((event.clientX - box.left) * unit - svg.dataset.left) / svg.dataset.width);
        const row = Math.floor((event.clientY - box.top) * unit / svg.dataset.height);
        const value = (grid.values[row] || [])[column];
        return value === undefined || value === null ? null
          : grid.row + " " + grid.rows[row] + ", layer " + grid.columns[column] + ": "
            + (value * 100).toPrecision(3) + " %";
      };
      document.addEventListener("pointermove", event => {
        const i = event.target.dataset ? event.target.dataset.i : undefined;
        const tensor = i === undefined || event.target.localName !== "rect" ? null : data.tensors[i];
        const text = tensor
          ? title(tensor) + ": " + tensor[TYPE] + " " + shape(tensor) + ", " + size(tensor[BYTES]) : cell(event);
        tip.style.display = text ? "block" : "none";
        if (!text) return;
        tip.textContent = text;
        tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
        tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8) + "px";
      });

      // One tensor.
      const details = byID("details");
      const histogram = values => {
        const svg = draw(details, "svg", { viewBox: "0 0 1000 170", class: "chart", role: "img" });
        const [low, high, counts] = [values.low, values.high, values.counts];
        const most = Math.max(1, ...counts);
        const step = 980 / counts.length;
        counts.forEach((count, bin) => {
          if (!count) return;
          const height = 4 + Math.log1p(count) / Math.log1p(most) * 130;
          const bar = draw(svg, "rect", { class: "bar", x: 10 + bin * step, y: 140 - height,
            width: Math.max(0.5, step - 1), height });
          const edge = index => number(low + (high - low) * index / counts.length);
          draw(bar, "title", {}, edge(bin) + " to " + edge(bin + 1) + ": " + count.toLocaleString("en"));
        });
        draw(svg, "path", { class: "rule", d: "M10 140h980" });
        draw(svg, "text", { class: "label", x: 10, y: 156 }, number(low));
        draw(svg, "text", { class: "label end", x: 990, y: 156 }, number(high));
        draw(svg, "text", { class: "label middle", x: 500, y: 156 }, "values; heights are logarithms of counts");
      };
      const show = i => {
        const tensor = data.tensors[i];
        details.replaceChildren();
        make(details, "h3", title(tensor));
        make(details, "p", tensor[TYPE] + " " + shape(tensor) + ", " + size(tensor[BYTES]) + ", "
          + data.roles[tensor[ROLE]] + ", in " + data.files[tensor[FILE]]);
        const values = tensor[VALUES];
        if (!values) {
          make(details, "p", "Its values were not read, or are not ordered.");
        } else {
          if (values.counts) histogram(values);
          const table = make(make(details, "div", undefined, "scroll"), "table");
          const [head, body] = [make(make(table, "thead"), "tr"), make(make(table, "tbody"), "tr")];
          for (const [key, value] of [["smallest", values.minimum], ["largest", values.maximum], ["mean", values.mean],
            ["RMS", values.rms], ["zeros", values.zeros], ["NaN", values.nan], ["infinite", values.infinite]]
            .concat((values.percentiles || []).map((value, k) => ["p" + data.percents[k], value]),
              (values.magnitudes || []).map((value, k) => ["|p" + data.magnitudePercents[k] + "|", value]))) {
            make(head, "th", key, "number");
            make(body, "td", number(value), "number");
          }
        }
        document.querySelectorAll("tr.chosen").forEach(row => row.classList.remove("chosen"));
        const row = document.querySelector("#tensors tr[data-i='" + i + "']");
        if (row) row.classList.add("chosen");
        history.replaceState(null, "", "#tensor=" + encodeURIComponent(tensor[NAME]));
      };
      document.addEventListener("click", event => {
        const target = event.target.closest ? event.target.closest("[data-i]") : null;
        if (!target) return;
        show(target.dataset.i);
        if (target.localName === "rect") details.scrollIntoView({ block: "nearest" });
      });

      // The list.
      const [body, filter, role, count, more] = ["tensors", "filter", "role", "count", "more"].map(byID);
      let [key, descending, limit] = [-1, false, 200];
      const sortValue = (tensor, key) => key === SHAPE ? tensor[SHAPE].reduce((a, b) => a * b, 1)
        : key === ROLE ? data.roles[tensor[ROLE]] : key > VALUES
        ? ((tensor[VALUES] || {})[["minimum", "maximum", "rms"][key - VALUES - 1]] ?? -Infinity) : tensor[key];
      const order = new Intl.Collator("en", { numeric: true });
      const list = () => {
        const words = filter.value.toLowerCase().split(/\s+/).filter(word => word);
        let rows = data.tensors.map((tensor, i) => i).filter(i => {
          const tensor = data.tensors[i];
          return (role.value === "" || tensor[ROLE] === +role.value)
            && words.every(word => tensor[NAME].toLowerCase().includes(word));
        });
        if (key >= 0) {
          const sign = descending ? -1 : 1;
          rows.sort((a, b) => {
            const [x, y] = [sortValue(data.tensors[a], key), sortValue(data.tensors[b], key)];
            return sign * (typeof x === "string" ? order.compare(x, y) : x < y ? -1 : x > y ? 1 : 0) || a - b;
          });
        }
        const bytes = rows.reduce((sum, i) => sum + data.tensors[i][BYTES], 0);
        count.textContent = rows.length + " of " + data.tensors.length + ", " + size(bytes);
        more.hidden = rows.length <= limit;
        body.replaceChildren();
        for (const i of rows.slice(0, limit)) {
          const tensor = data.tensors[i];
          const row = make(body, "tr");
          row.dataset.i = i;
          make(row, "td", title(tensor), "name");
          make(row, "td", tensor[TYPE]);
          make(row, "td", shape(tensor));
          make(row, "td", size(tensor[BYTES]), "number");
          make(row, "td", data.roles[tensor[ROLE]]);
          if (data.hasValues) for (const key of ["minimum", "maximum", "rms"])
            make(row, "td", number((tensor[VALUES] || {})[key]), "number");
        }
      };
      data.roles.forEach((name, i) => { make(role, "option", name).value = i; });
      filter.addEventListener("input", () => { limit = 200; list(); });
      role.addEventListener("change", () => { limit = 200; list(); });
      more.addEventListener("click", () => { limit = Infinity; list(); });
      document.querySelectorAll("th[data-key]").forEach(head => head.addEventListener("click", () => {
        const chosen = +head.dataset.key;
        [key, descending] = [chosen, key === chosen ? !descending : chosen === BYTES];
        list();
      }));

      // The place in the address: #tensor=NAME shows a tensor, #filter=WORDS fills the list's filter.
      const go = () => {
        const [what, value] = decodeURIComponent(location.hash.slice(1)).split(/=(.*)/s);
        if (what === "filter") filter.value = value;
        list();
        const i = what === "tensor" ? data.tensors.findIndex(tensor => tensor[NAME] === value) : -1;
        if (i >= 0) { show(i); details.scrollIntoView({ block: "center" }); }
      };
      byID("theme").addEventListener("click", () => {
        const root = document.documentElement;
        const dark = root.dataset.theme ? root.dataset.theme === "dark"
          : matchMedia("(prefers-color-scheme: dark)").matches;
        root.dataset.theme = dark ? "light" : "dark";
      });
      document.querySelectorAll(".scripted").forEach(element => { element.hidden = false; });
      go();
    })();
    """#
}
