'use strict';
(() => {
  const table = document.getElementById('matrix');
  const only = document.getElementById('only');
  const find = document.getElementById('find');
  const status = document.getElementById('status');
  const cases = [...table.querySelectorAll('tr.case')].map(row => ({ row, more: row.nextElementSibling, text: '' }));
  const areas = [...table.querySelectorAll('tbody.rows')];
  const names = [...table.querySelectorAll('th.system')].map(th => th.dataset.name);
  document.documentElement.classList.add('js');

  // which rows are there
  function show() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    table.classList.toggle('only', only.checked);
    for (const one of cases) {
      one.text ||= (one.row.textContent + ' ' + one.more.textContent).toLowerCase();
      one.row.classList.toggle('other', !words.every(word => one.text.includes(word)));
    }
    for (const area of areas) {
      area.classList.toggle('other', !area.querySelector('tr.case:not(.other)'));
    }
    const shown = cases.filter(one => one.row.getClientRects().length).length;
    status.textContent = `${shown} of ${cases.length} cases shown`;
  }

  // the answers of a case: one case open at a time, below its row
  let from = null;
  function close() {
    table.querySelectorAll('.open').forEach(more => more.classList.remove('open'));
    table.querySelectorAll('.at').forEach(part => part.classList.remove('at'));
    if (from) from.setAttribute('aria-expanded', 'false');
    from = null;
  }
  function open(link) {
    const part = document.getElementById(link.hash.slice(1));
    if (!part) return;
    close();
    from = link;
    link.setAttribute('aria-expanded', 'true');
    part.closest('.more').classList.add('open');
    if (part.matches('section')) {
      link.classList.add('at');
      part.classList.add('at');
    }
  }
  function address(hash) {
    // a browser may not allow it for a file
    try { history.replaceState(null, '', hash); } catch { /* the page works without */ }
  }
  table.addEventListener('click', event => {
    const link = event.target.closest('a');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link === from || link.matches('.shut')) {
      const back = from;
      close();
      if (back) back.focus();
      address('#closed');
    } else {
      open(link);
      address(link.hash);
    }
  });
  document.addEventListener('keydown', event => {
    if (event.key === 'Escape' && from) {
      const back = from;
      close();
      back.focus();
    }
  });
  // which column a cell is in
  table.addEventListener('mouseover', event => {
    const cell = event.target.closest('tr.case > td');
    if (cell && !cell.title) {
      const word = cell.textContent.trim().split(' ')[0];
      cell.title = `${names[cell.cellIndex - 1]}: ${word}`;
    }
  });
  function visit() {
    const link = location.hash.length > 1 && [...table.querySelectorAll('.case a')].find(a => a.hash === location.hash);
    if (link) {
      open(link);
      link.scrollIntoView({ block: 'center', inline: 'nearest' });
    }
  }

  only.addEventListener('change', show);
  find.addEventListener('input', show);
  window.addEventListener('hashchange', visit);
  // index.html?differences&filter=read
  const asked = new URLSearchParams(location.search);
  if (asked.has('differences')) only.checked = true;
  if (asked.has('filter')) find.value = asked.get('filter');
  show();
  // after the browser's own scrolling to the address
  window.addEventListener('load', () => setTimeout(visit));
})();
