// Does the page do what it promises, in a real browser, with a real server and model? Run by `cargo xtask page`, beside trouble.mjs.

import './chat.mjs';
import './begin.mjs';
import './branches.mjs';
import './keep.mjs';
import './ask.mjs';
import './proof.mjs';
import './docs.mjs';
import './figures.mjs';
import './text.mjs';
import './screens.mjs';
