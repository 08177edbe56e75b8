/**
 * Draws what `mpt display` sends (display/protocol.ts) on the canvas, and connects again when the connection is lost. Plain browser code:
 * it is served as it is.
 */
const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 4000;
const PREFIX = 8;

const canvas = document.querySelector('#display');
const context = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
const status = document.querySelector('#status');

/** For people with the console open, and for tests. */
const display = { state: 'connecting', pictures: 0, updates: 0, rowsDrawn: 0, lastRanges: [] };
globalThis.mptDisplay = display;

const TEXTS = {
  connecting: () => 'connecting',
  on: () => `${canvas.width} x ${canvas.height}`,
  off: () => 'the plane is off',
  gone: () => 'the server is gone; waiting for it',
  lost: () => 'mpt display is gone; trying again',
};

function show(state) {
  display.state = state;
  document.documentElement.dataset.state = state;
  status.textContent = TEXTS[state]();
}

function drawRows(pixels, width, first, count) {
  context.putImageData(new ImageData(pixels, width, count), 0, first);
  display.rowsDrawn += count;
}

const DRAW = {
  picture: ({ width, height }, pixels) => {
    canvas.width = width;
    canvas.height = height;
    drawRows(pixels, width, 0, height);
    display.pictures++;
    display.lastRanges = [[0, height]];
    show('on');
  },
  rows: ({ width, ranges }, pixels) => {
    let at = 0;
    for (const [first, count] of ranges) {
      const length = width * count * 4;
      drawRows(pixels.subarray(at, at + length), width, first, count);
      at += length;
    }
    display.updates++;
    display.lastRanges = ranges;
  },
  off: () => show('off'),
  gone: () => show('gone'),
};

function received(message) {
  const header = new DataView(message).getUint32(0, true);
  const { type, ...rest } = JSON.parse(new TextDecoder().decode(new Uint8Array(message, PREFIX, header)));
  DRAW[type](rest, new Uint8ClampedArray(message, PREFIX + header));
}

let retryMs = RETRY_FIRST_MS;

function connect() {
  const socket = new WebSocket(`ws://${location.host}/display`);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => {
    retryMs = RETRY_FIRST_MS;
  };
  socket.onmessage = ({ data }) => received(data);
  socket.onclose = () => {
    show('lost');
    setTimeout(connect, retryMs);
    retryMs = Math.min(2 * retryMs, RETRY_MAX_MS);
  };
}

connect();
