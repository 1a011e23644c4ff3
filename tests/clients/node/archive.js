// Archives in memory: enough of tar for what these programs send and get.
'use strict';

function header(name, size, isDirectory) {
  const block = Buffer.alloc(512);
  block.write(name, 0, 100);
  block.write(isDirectory ? '0000755\0' : '0000644\0', 100);
  block.write('0000000\0', 108);
  block.write('0000000\0', 116);
  block.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  block.write('00000000000\0', 136);
  block.write('        ', 148);
  block.write(isDirectory ? '5' : '0', 156);
  block.write('ustar\0' + '00', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

// `entries` by their paths: text, or null for a directory.
function archive(entries) {
  const blocks = Object.entries(entries).flatMap(([name, content]) => {
    const body = Buffer.from(content ?? '');
    const rest = Buffer.alloc((512 - (body.length % 512)) % 512);
    return [header(name, body.length, content === null), body, rest];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

// The other way round; names of directories end with a slash.
function files(bytes) {
  const found = {};
  for (let at = 0; at + 512 <= bytes.length && bytes[at] !== 0;) {
    const field = (from, length) => bytes.toString('latin1', at + from, at + from + length).replace(/\0.*$/s, '');
    const size = parseInt(field(124, 12), 8);
    if ('05'.includes(field(156, 1))) found[field(0, 100)] = bytes.toString('utf8', at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return found;
}

module.exports = { archive, files };
