// Brings the page to life, one run at a time.
const views = new Map();

function loaded(data, place) {
  // a view is in the page, or in a style sheet beside it: a page opened as a file may read no data, and a script would
  // have to be trusted
  const view = data.views[place];
  if (view.maps) return view;
  const chunk = Math.floor((place - data.embedded) / data.chunk.size);
  const name = `${data.run}-${chunk}`;
  if (!views.has(name)) views.set(name, fetched(`${data.chunk.name}${chunk}.css`, name));
  return views.get(name).then((found) => {
    found?.forEach((one, i) => Object.assign(data.views[data.embedded + chunk * data.chunk.size + i] ?? {}, one));
    views.delete(name);
    return view.maps ? view : null;
  });
}

function fetched(address, name) {
  return new Promise((done) => {
    const link = element("link");
    link.rel = "stylesheet";
    link.onerror = () => done(null);
    link.onload = () => {
      const style = getComputedStyle(document.documentElement);
      let text = "";
      for (let piece = 0; ; piece++) {
        const more = style.getPropertyValue(`--heatproof-${name}-${piece}`).replace(/[^A-Za-z0-9+/=]/g, "");
        if (!more) break;
        text += more;
      }
      link.remove();
      try {
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        done(JSON.parse(new TextDecoder().decode(bytes)));
      } catch {
        done(null);
      }
    };
    link.href = address;
    document.head.append(link);
  });
}

const look = JSON.parse(document.getElementById("look").textContent);
for (const root of document.querySelectorAll(".explore")) {
  const data = JSON.parse(document.getElementById(`data-${root.dataset.run}`).textContent);
  data.run = root.dataset.run;
  const box = root.querySelector(".viewer");
  const viewer = box && new Viewer(box, data, look);
  const name = (facts) => String(facts.find(([column]) => column === "image")?.[1] ?? "");
  const choose = (facts) => viewer?.show(name(facts), facts.filter(([column]) => column !== "image"));
  const thumb = viewer && ((image) => {
    const view = data.views[viewer.byImage.get(image)];
    return view && (view.thumb ?? view.photo);
  });
  const rows = new Rows(root, data, choose, thumb);
  if (viewer && rows.order.length) {
    // the first row that can be looked at
    const seen = rows.order.slice(0, 500).find((row) => viewer.has(rows.columns[rows.id].at(row)));
    rows.choose(seen ?? rows.order[0]);
  }
}

// on paper nothing can be opened: everything is, and is as it was afterwards
const opened = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    opened.push(details);
  }
});
addEventListener("afterprint", () => {
  for (const details of opened.splice(0)) details.open = false;
});
