/** Documents that somebody changed and then made whole again: lengths and checksums are right. */
import { crc32 } from '../../src/core/gvt/state/crc32.js';
import { parseDocument } from '../../src/core/gvt/state/document.js';

const PREFIX = 20;

/** A document with this header and these sections, whatever they say. */
export function assemble(header: unknown, sections: readonly Uint8Array[], version = 1): Uint8Array {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(PREFIX);
  prefix.write('MPTVGPU\n', 'latin1');
  prefix.writeUInt32LE(version, 8);
  prefix.writeUInt32LE(text.length, 12);
  prefix.writeUInt32LE(crc32(text), 16);
  return Buffer.concat([prefix, text, ...sections]);
}

/** The document with another header. */
export function withHeader(state: Uint8Array, change: (header: Record<string, unknown>) => unknown): Uint8Array {
  const { header, sections } = parseDocument(state);
  const copy = JSON.parse(JSON.stringify(header)) as Record<string, unknown>;
  return assemble(change(copy) ?? copy, [...sections.values()]);
}

/** The document with another content of one section. */
export function withSection(state: Uint8Array, name: string, change: (bytes: Uint8Array) => Uint8Array): Uint8Array {
  const { header, sections } = parseDocument(state);
  const changed = new Map([...sections].map(([key, bytes]) => [key, key === name ? change(bytes.slice()) : bytes]));
  const table = [...changed].map(([key, bytes]) => ({ name: key, bytes: bytes.length, crc32: crc32(bytes) }));
  return assemble({ ...header, sections: table }, [...changed.values()]);
}

/** Sections as text. @param without those that need not be the same */
export function sections(state: Uint8Array, ...without: string[]): Record<string, string> {
  const found = [...parseDocument(state).sections].filter(([name]) => !without.includes(name));
  return Object.fromEntries(found.map(([name, bytes]) => [name, Buffer.from(bytes).toString('base64')]));
}
