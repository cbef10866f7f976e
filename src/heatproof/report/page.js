// Brings the page to life, one run at a time.
const waiting = new Map();

window.heatproofViews = (run, chunk, views) => waiting.get(`${run}-${chunk}`)?.(views);

function loaded(data, place) {
  // a view is in the page, or in a small script beside it (a page opened as a file may read no other kind of file)
  const view = data.views[place];
  if (view.maps) return view;
  const chunk = Math.floor((place - data.embedded) / data.chunk.size);
  return new Promise((done) => {
    const script = element("script");
    const settle = (views) => {
      views?.forEach((one, i) => Object.assign(data.views[data.embedded + chunk * data.chunk.size + i], one));
      script.remove();
      done(view.maps ? view : null);
    };
    waiting.set(`${data.run}-${chunk}`, settle);
    script.onerror = () => settle(null);
    script.src = `${data.chunk.name}${chunk}.js`;
    document.head.append(script);
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
