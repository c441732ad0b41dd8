// Which files go with the next message? Text alone, of a bounded size, read here; what is not taken is said.

import { $, bytes, el, iconButton } from './dom.js';

const MOST_BYTES = 256 * 1024;
const MOST_FILES = 8;

export class Files {
  list = []; // {name, text}

  constructor(changed) {
    this.changed = changed;
    $('attach').addEventListener('click', () => $('pick').click());
    $('pick').addEventListener('change', () => { this.add([...$('pick').files]); $('pick').value = ''; });
    const main = $('main');
    const carries = (event) => event.dataTransfer?.types.includes('Files');
    main.addEventListener('dragover', (event) => { if (carries(event)) { event.preventDefault(); main.classList.add('drop'); } });
    main.addEventListener('dragleave', () => main.classList.remove('drop'));
    main.addEventListener('drop', (event) => {
      main.classList.remove('drop');
      if (!carries(event)) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
    $('ask').addEventListener('paste', (event) => {
      const found = [...(event.clipboardData?.files ?? [])];
      if (found.length) { event.preventDefault(); this.add(found); }
    });
  }

  async add(files) {
    const refused = [];
    for (const file of files) {
      const name = file.name.replace(/[\p{C}`]/gu, '_').slice(0, 120);
      if (this.list.length >= MOST_FILES) refused.push(`${name}: a message takes at most ${MOST_FILES} files.`);
      else if (file.size > MOST_BYTES) refused.push(`${name} has ${bytes(file.size)}; expected at most ${bytes(MOST_BYTES)}.`);
      else {
        const text = await read(file);
        if (typeof text === 'string') this.list.push({ name, text });
        else refused.push(`${name} ${text.problem}`);
      }
    }
    this.show(refused.join(' '));
    $('ask').focus();
  }

  /** The files of a message that is sent now. */
  take() {
    const taken = this.list;
    this.list = [];
    this.show('');
    return taken;
  }

  show(problem) {
    const chip = (file) => el('li', {}, el('span', { text: file.name }), el('small', { text: bytes(new Blob([file.text]).size) }),
      iconButton('close', `Remove ${file.name}`, () => { this.list = this.list.filter((each) => each !== file); this.show(''); $('ask').focus(); }));
    $('files').replaceChildren(...this.list.map(chip));
    $('files').hidden = !this.list.length;
    $('file-problem').textContent = problem;
    $('file-problem').hidden = !problem;
    this.changed();
  }
}

/** A file's text, or {problem}. */
async function read(file) {
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(await file.arrayBuffer());
    if (text.includes('\0')) return { problem: 'is no text file: it holds zero bytes.' };
    return text.trim() ? text : { problem: 'is empty.' };
  } catch (error) {
    return { problem: error instanceof TypeError ? 'is no text file: expected UTF-8.' : 'could not be read.' };
  }
}
